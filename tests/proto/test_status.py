from __future__ import annotations

import grpc
import grpc.aio
import pytest

from proto.status import FROM_STATUS, TO_STATUS, from_rpc_error
from swarm.errors import FAULTS, BadRequest, DeadLink, Fault, FaultCode, Internal, Timeout

REFUSED = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
    "Failed to connect to remote host: connect: Connection refused (111)"
)


def rpc_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, "debug\nstring")


def test_every_fault_has_a_status_and_every_status_a_fault():
    assert set(TO_STATUS) == set(FaultCode)
    assert set(FROM_STATUS) == set(grpc.StatusCode)


# Two Faults may share a status; the way back then gives the commoner one. These four are the only ones.
COARSER = {
    FaultCode.OVERFLOW: FaultCode.BAD_REQUEST,
    FaultCode.BAD_NUMBERS: FaultCode.BAD_REQUEST,
    FaultCode.BAD_GRAMMAR: FaultCode.BAD_REQUEST,
    FaultCode.DRAINING: FaultCode.DEAD_LINK,
}


@pytest.mark.parametrize("code", FaultCode)
def test_a_fault_survives_the_way_through_grpc(code: FaultCode):
    fault = from_rpc_error(rpc_error(TO_STATUS[code], "the words of the peer"), "host:1")
    assert type(fault) is FAULTS[COARSER.get(code, code)]


@pytest.mark.parametrize(
    ("code", "details", "kind", "words"),
    [
        (grpc.StatusCode.UNAVAILABLE, REFUSED, DeadLink, "connection refused"),
        (grpc.StatusCode.UNAVAILABLE, "DNS resolution failed for nowhere:1", DeadLink, "the host name is not known"),
        (grpc.StatusCode.UNAVAILABLE, "ping timeout", DeadLink, "it stopped answering pings"),
        (grpc.StatusCode.UNAVAILABLE, "recvmsg:Connection reset by peer", DeadLink, "the connection broke"),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", DeadLink, "the connection broke"),
        (grpc.StatusCode.UNAVAILABLE, "", DeadLink, "unavailable"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Timeout, "no answer within the deadline"),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", BadRequest, "it is a gRPC server, but not a Shoal peer"),
        (grpc.StatusCode.CANCELLED, "", DeadLink, "the call was cancelled"),
        (grpc.StatusCode.UNKNOWN, "Unexpected\n <class 'KeyError'>", Internal, "Unexpected <class 'KeyError'>"),
    ],
)
def test_what_grpc_says_in_many_words_is_said_in_few(
    code: grpc.StatusCode, details: str, kind: type[Fault], words: str
):
    fault = from_rpc_error(rpc_error(code, details), "host:1")
    assert type(fault) is kind and str(fault) == f"host:1: {words}"


def test_a_peers_long_and_coloured_words_become_one_short_line():
    fault = from_rpc_error(rpc_error(grpc.StatusCode.INTERNAL, "\x1b[31mred\r\n" * 1000), "host:1")
    assert len(str(fault)) <= 320 and str(fault).isprintable()
