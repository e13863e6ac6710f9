"""Each of our errors has the status with which clients do the right thing."""

from __future__ import annotations

import pytest

from gateway.errors import ApiError, of_error, of_validation
from swarm.errors import (
    BadRequest,
    CorruptCheckpoint,
    DeadLink,
    Draining,
    NoRoute,
    Refused,
    ShoalError,
    SwarmUnreachable,
    Timeout,
    UsageError,
)  # fmt: skip
from swarm.span import Span


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (UsageError("no"), 400, None, None),
        (NoRoute("no", (Span(0, 1),)), 503, "no_route", "5"),
        (SwarmUnreachable("no"), 503, "swarm_unavailable", "5"),
        (Refused("no", 1.2), 503, "refused", "2"),
        (Refused("no", 0.0), 503, "refused", "1"),
        (Refused("no", None), 503, "refused", None),
        (Draining("no"), 503, "draining", "5"),
        (Timeout("no"), 504, "timeout", None),
        (DeadLink("no"), 502, "dead_link", None),
        (BadRequest("no"), 502, "bad_request", None),
        (CorruptCheckpoint("no"), 502, "model_error", None),
        (ShoalError("no"), 500, "internal_error", None),
    ],
)
def test_every_error_has_its_status(error: ShoalError, status: int, code: str | None, retry_after: str | None):
    found = of_error(error)
    assert (found.status, found.code, found.headers.get("retry-after")) == (status, code, retry_after)


def test_a_body_has_the_four_fields_and_no_other():
    body = ApiError(400, "wrong", code="c", param="p").body
    assert body == {"error": {"message": "wrong", "type": "invalid_request_error", "param": "p", "code": "c"}}
    assert ApiError(503, "no").body["error"]["type"] == "server_error"


def test_what_can_never_fit_is_not_to_be_tried_again():
    assert of_error(Refused("no", None)).headers == {"x-should-retry": "false"}


def test_401_says_how_to_authenticate():
    assert ApiError(401, "who?").headers["www-authenticate"] == "Bearer"


def test_a_validation_error_names_the_field_and_repeats_nothing():
    mistake = {"loc": ("body", "messages", 0, "role"), "msg": "Field required", "type": "missing", "input": "secret"}
    found = of_validation([mistake])
    assert (found.status, found.param, str(found)) == (400, "messages.0.role", "messages.0.role: Field required")


def test_arms_of_a_union_are_not_the_callers_affair():
    mistakes = [{"loc": ("body", "stop", arm), "msg": "bad", "type": "t"} for arm in ("str", "list[str]")]
    assert of_validation(mistakes).param == "stop"
    assert of_validation([]).status == 400
