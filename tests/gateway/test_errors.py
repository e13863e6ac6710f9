"""Each of our errors has the status with which clients do the right thing."""

from __future__ import annotations

import pytest

from gateway.errors import ApiError, of_error, of_validation, without_addresses
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("127.0.0.1:31337: Connection refused", "a peer: Connection refused"),
        ("203.0.113.7 did not greet within 2 s", "a peer did not greet within 2 s"),
        ("[2001:db8::1]:31337: the peer closed the link", "a peer: the peer closed the link"),
        ("[::1]:1 and [fe80::1%eth0]:2", "a peer and a peer"),
        ("2001:db8::17 is gone, and so is ::1", "a peer is gone, and so is a peer"),
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:10.1.2.3:80: no route",
         "failed to connect to all addresses; last error: UNKNOWN: a peer: no route"),
        ("dns:///ann.example.org:443: name resolution", "a peer: name resolution"),
        ("cannot dial localhost:50051.", "cannot dial a peer."),
        ("no answer from /ip4/203.0.113.7/tcp/31337/p2p/12D3KooWabc, nor others", "no answer from a peer, nor others"),
    ],
)  # fmt: skip
def test_nobody_is_told_where_a_peer_is(text: str, told: str):
    assert without_addresses(text) == told
    assert str(of_error(DeadLink(text))) == f"a peer failed: {told}"


@pytest.mark.parametrize(
    "text",
    [
        "nobody serves blocks 0:12, 12:24 of sample",
        "peer 1b3f0a52[0:12] → 9c24d7e8[12:24] speaks protocol 3 (version 0.1.0)",
        "chunk starts at 7, seat is at 5: come again in 1.5 s",
        "the answer was not whole after 600 s",
        "Note: 3:45 is no address, nor is std::move, nor 1.2.3",
    ],
)
def test_what_is_no_address_stays(text: str):
    assert without_addresses(text) == text
