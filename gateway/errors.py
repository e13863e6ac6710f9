"""ApiError: an answer that is not the one hoped for, in OpenAI's shape; and the one table from our errors to it. Pure.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

Statuses are chosen so that clients do the right thing by themselves: 400 is never tried again, 429 and 503 are, after
Retry-After. Where waiting cannot help although the status says so, ``x-should-retry: false`` says it (openai-python
and openai-node obey).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from swarm.errors import (
    BadGrammar,
    Draining,
    Fault,
    ModelError,
    NoRoute,
    Refused,
    ShoalError,
    SwarmError,
    Timeout,
    UsageError,
)

SOMEBODY = "a peer"
# Addresses as our errors and gRPC's name them. A Span (``0:12``) and a peer's id are none.
_ADDRESS = re.compile(
    r"""(?:dns:///|ipv[46]:)? (?:
        /(?:ip4|ip6|dns|dns4|dns6|dnsaddr)/ [^\s,;'")\]]+           # as libp2p writes them
      | \[ [0-9a-f.]* (?: :[0-9a-f.]*){2,} (?:%\w+)? \] (?: :\d+)?   # [::1]:31337
      | (?<![\w.]) \d{1,3} (?: \.\d{1,3}){3} (?![\w.]\d) (?: :\d+)?
      | (?<![\w.:\[]) (?: [0-9a-f]{1,4}:){2,7} (?: :?[0-9a-f]{1,4} | :) (?![\w:])
      | (?<![\w.:\[]) :: (?: [0-9a-f]{1,4}) (?: :[0-9a-f]{1,4})* (?![\w:])
      | (?<![\w.-]) (?= [\d.-]* [a-z]) [\w-]+ (?: \.[\w-]+)* :\d{1,5} (?!\w|:\w)   # a host's name
    )""",
    re.VERBOSE | re.IGNORECASE,
)

BAD_GRAMMAR = "bad_grammar"
RETRY_S = 5.0  # where the swarm said nothing better

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """Raised anywhere below the routes; becomes the body of a response, or an event of a stream that has begun."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None,
        retry_after_s: float | None = None, retry: bool | None = None,
    ):  # fmt: skip
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.retry_after_s = retry_after_s
        self.retry = retry

    @property
    def body(self) -> dict[str, Any]:
        kind = KINDS.get(self.status, "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def plain_body(self) -> dict[str, Any]:
        """As the Open Inference Protocol has it."""
        return {"error": str(self)}

    @property
    def headers(self) -> dict[str, str]:
        """Those that the status calls for."""
        found: dict[str, str] = {}
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        if self.retry_after_s is not None:
            found["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.retry is not None:
            found["x-should-retry"] = "true" if self.retry else "false"
        return found


def without_addresses(text: str) -> str:
    """Peers are homes: who asks a public gateway is not told where they are."""
    return _ADDRESS.sub(SOMEBODY, text)


def of_error(error: ShoalError) -> ApiError:
    """What a caller is told of one of our errors. The message is ours and names no prompt and no address."""
    says = without_addresses(str(error))
    match error:
        case UsageError():
            return ApiError(400, says)
        case NoRoute():
            return ApiError(503, says, code="no_route", retry_after_s=RETRY_S)
        case SwarmError():
            return ApiError(503, says, code="swarm_unavailable", retry_after_s=RETRY_S)
        case Refused(retry_after_s=None):
            return ApiError(503, says, code="refused", retry=False)
        case Refused(retry_after_s=seconds):
            return ApiError(503, says, code="refused", retry_after_s=seconds)
        case Draining():
            return ApiError(503, says, code="draining", retry_after_s=RETRY_S)
        case BadGrammar():
            return ApiError(400, says, code=BAD_GRAMMAR, param="response_format")
        case Timeout():
            return ApiError(504, says, code="timeout")
        case Fault():
            return ApiError(502, f"a peer failed: {says}", code=error.code.name.lower())
        case ModelError():
            return ApiError(502, says, code="model_error")
        case _:
            return ApiError(500, says, code="internal_error")


def of_validation(mistakes: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first thing that pydantic did not like. What was sent is not repeated: it may be a prompt."""
    if not mistakes:
        return ApiError(400, "the request is not what the API takes")
    first = min(mistakes, key=lambda mistake: len(mistake.get("loc", ())))
    # The arms of a union ("str", "list[int]") are in ``loc`` too; a caller knows fields and places only.
    path = [str(step) for step in first.get("loc", ()) if step != "body" and not _is_arm(step)]
    name = ".".join(path)
    if first.get("type") == "json_invalid":
        return ApiError(400, "the body is not JSON", code="invalid_json")
    if first.get("type") == "model_attributes_type" and not name:
        return ApiError(
            400, "the body must be a JSON object, sent with Content-Type: application/json", code="invalid_json"
        )
    said = str(first.get("msg", "is not what the API takes"))
    return ApiError(400, f"{name}: {said}" if name else said, param=name or None, code=str(first.get("type")))


def _is_arm(step: object) -> bool:
    return isinstance(step, str) and (step in ("str", "int", "float", "bool") or "[" in step or step[:1].isupper())
