"""The three calls of ``shoal.v1.Peer`` by name: how the dialling side makes them, how the serving side offers them.

Stands in for gRPC's generated stubs for one reason: Frames and answers arrive as bytes, so that ``frames.decode`` sees
them before protobuf does, and garbage becomes a Fault instead of a traceback in gRPC's log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from proto import shoal_pb2 as pb

SERVICE = "shoal.v1.Peer"

Context = grpc.aio.ServicerContext[Any, Any]
_Request = TypeVar("_Request", pb.InfoRequest, pb.AssetRequest)


class PeerService(Protocol):
    """What a peer offers. Each is an ``async def``; Link and Asset yield, or write to the context."""

    def Link(self, requests: AsyncIterator[bytes], context: Context) -> Any:
        """Each request is the bytes of one Frame: hand them to ``frames.decode``. Answers are pb.Frame."""
        ...

    def Info(self, request: pb.InfoRequest, context: Context) -> Any: ...

    def Asset(self, request: pb.AssetRequest, context: Context) -> Any: ...


def add_peer_service(service: PeerService, server: grpc.aio.Server) -> None:
    """Registers ``service`` with ``server`` under ``SERVICE``."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Link": grpc.stream_stream_rpc_method_handler(service.Link, None, pb.Frame.SerializeToString),
        "Info": grpc.unary_unary_rpc_method_handler(
            service.Info, _reader(pb.InfoRequest), pb.InfoReply.SerializeToString
        ),
        "Asset": grpc.unary_stream_rpc_method_handler(
            service.Asset, _reader(pb.AssetRequest), pb.AssetPart.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


class PeerStub:
    """The same three on a channel. Answers are bytes here, too: who reads them says what is wrong with them."""

    def __init__(self, channel: grpc.aio.Channel):
        self.link = cast(
            "grpc.aio.StreamStreamMultiCallable[pb.Frame, bytes]",
            channel.stream_stream(f"/{SERVICE}/Link", pb.Frame.SerializeToString, None),
        )
        self.info = cast(
            "grpc.aio.UnaryUnaryMultiCallable[pb.InfoRequest, bytes]",
            channel.unary_unary(f"/{SERVICE}/Info", pb.InfoRequest.SerializeToString, None),
        )
        self.asset = cast(
            "grpc.aio.UnaryStreamMultiCallable[pb.AssetRequest, bytes]",
            channel.unary_stream(f"/{SERVICE}/Asset", pb.AssetRequest.SerializeToString, None),
        )


def _reader(kind: type[_Request]) -> Callable[[bytes], _Request]:
    """A request that cannot be read asks for nothing in particular: it is the empty one."""

    def read(data: bytes) -> _Request:
        try:
            return kind.FromString(data)
        except DecodeError:
            return kind()

    return read
