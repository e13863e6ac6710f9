"""The border to gRPC's errors: one table each way, and plain words for what gRPC says in many.

Only unary calls carry our Faults as status codes; on a Link they travel as entries.
"""

from __future__ import annotations

import grpc
import grpc.aio

from swarm.errors import (
    BadRequest,
    DeadLink,
    Fault,
    FaultCode,
    Internal,
    NoSeat,
    OutOfOrder,
    Refused,
    StaleEpoch,
    Timeout,
    WrongModel,
)
from swarm.text import one_line

TO_STATUS: dict[FaultCode, grpc.StatusCode] = {
    FaultCode.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    FaultCode.WRONG_MODEL: grpc.StatusCode.FAILED_PRECONDITION,
    FaultCode.REFUSED: grpc.StatusCode.PERMISSION_DENIED,  # RESOURCE_EXHAUSTED is what gRPC itself says, see below
    FaultCode.NO_SEAT: grpc.StatusCode.NOT_FOUND,
    FaultCode.STALE_EPOCH: grpc.StatusCode.ABORTED,
    FaultCode.OUT_OF_ORDER: grpc.StatusCode.OUT_OF_RANGE,
    FaultCode.OVERFLOW: grpc.StatusCode.RESOURCE_EXHAUSTED,
    FaultCode.BAD_NUMBERS: grpc.StatusCode.INVALID_ARGUMENT,
    FaultCode.DRAINING: grpc.StatusCode.UNAVAILABLE,
    FaultCode.DEAD_LINK: grpc.StatusCode.UNAVAILABLE,
    FaultCode.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    FaultCode.INTERNAL: grpc.StatusCode.INTERNAL,
    FaultCode.BAD_GRAMMAR: grpc.StatusCode.INVALID_ARGUMENT,
}

FROM_STATUS: dict[grpc.StatusCode, type[Fault]] = {
    grpc.StatusCode.OK: Internal,  # not an error, so not an answer that makes sense here
    grpc.StatusCode.CANCELLED: DeadLink,
    grpc.StatusCode.UNKNOWN: Internal,
    grpc.StatusCode.INVALID_ARGUMENT: BadRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: Timeout,
    grpc.StatusCode.NOT_FOUND: NoSeat,
    grpc.StatusCode.ALREADY_EXISTS: Internal,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
    grpc.StatusCode.UNAUTHENTICATED: Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BadRequest,  # gRPC's own word for a message above the size limit
    grpc.StatusCode.FAILED_PRECONDITION: WrongModel,
    grpc.StatusCode.ABORTED: StaleEpoch,
    grpc.StatusCode.OUT_OF_RANGE: OutOfOrder,
    grpc.StatusCode.UNIMPLEMENTED: BadRequest,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAVAILABLE: DeadLink,
    grpc.StatusCode.DATA_LOSS: Internal,
}

_WORDS: tuple[tuple[str, str], ...] = (  # what gRPC's details contain → what we say
    ("connection refused", "connection refused"),
    ("dns resolution failed", "the host name is not known"),
    ("domain name not found", "the host name is not known"),
    ("no route to host", "no route to the host"),
    ("network is unreachable", "the network is unreachable"),
    ("ping timeout", "it stopped answering pings"),
    ("keepalive watchdog", "it stopped answering pings"),
    ("http1.x server", "something other than a Shoal peer listens there"),
    ("ssl", "something other than a Shoal peer listens there"),
    ("connection timed out", "the connection timed out"),
    ("connection reset", "the connection broke"),
    ("socket closed", "the connection broke"),
    ("broken pipe", "the connection broke"),
    ("goaway", "it is shutting down"),
    ("server shutdown", "it is shutting down"),
    ("cancelling all calls", "it is shutting down"),
    ("larger than max", "a message is larger than the limit of gRPC"),
)


def from_rpc_error(error: grpc.aio.AioRpcError, address: str) -> Fault:
    """The Fault that ``error``, met while talking to ``address``, means to us. Its message is one line."""
    kind = FROM_STATUS[error.code()]
    return kind(f"{address}: {describe(error)}")


def describe(error: grpc.aio.AioRpcError) -> str:
    """What happened, in a few words without gRPC's noise."""
    code, details = error.code(), error.details() or ""
    known = next((words for needle, words in _WORDS if needle in details.lower()), None)
    if known is not None:
        return known
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "it is a gRPC server, but not a Shoal peer"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer within the deadline"
    if code is grpc.StatusCode.CANCELLED:
        return "the call was cancelled"
    return one_line(details) or code.name.lower().replace("_", " ")
