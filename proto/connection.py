"""Connection: one channel to one peer's address. Asks for its Info and Assets, and opens Links over it.

Every error that leaves here is one of ours; nothing is ever retried here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import grpc.aio
from google.protobuf.message import DecodeError

from proto import shoal_pb2 as pb
from proto.info import decode_info_reply
from proto.limits import Limits
from proto.link import Link, Traffic
from proto.messages import AssetRef, Hello, Info
from proto.options import CHANNEL_OPTIONS
from proto.rpc import PeerStub
from proto.status import from_rpc_error
from swarm.address import Address
from swarm.errors import BadRequest, UsageError

MAX_ASSET_BYTES = 64 << 20


class Connection:
    """A channel to ``address`` (host:port), dialled when first used. Make it where its event loop runs."""

    def __init__(self, address: str, options: Sequence[tuple[str, int]] = CHANNEL_OPTIONS):
        self.address = address
        try:
            Address.parse(address)
        except UsageError as error:
            raise BadRequest(str(error)) from error
        # The explicit scheme keeps gRPC from reading an address as a unix: or xds: one.
        self._channel = grpc.aio.insecure_channel(f"dns:///{address}", options=options)
        self._stub = PeerStub(self._channel)
        self._links: set[Link] = set()

    async def info(self, timeout_s: float = 5.0) -> Info:
        """What the peer says of itself. Raises DeadLink, Timeout, or BadRequest for an answer that cannot be."""
        try:
            reply = await self._stub.info(pb.InfoRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None
        try:
            return decode_info_reply(reply)
        except BadRequest as fault:
            raise BadRequest(f"{self.address}: {fault}") from None

    async def asset(self, ref: AssetRef, timeout_s: float = 60.0) -> bytes:
        """The file that ``ref`` names, of exactly that size and digest; BadRequest when the peer sends another."""
        if ref.size > MAX_ASSET_BYTES:
            raise BadRequest(f"{self.address}: asset {ref.name} has {ref.size} bytes, at most {MAX_ASSET_BYTES} taken")
        data = bytearray()
        call = self._stub.asset(pb.AssetRequest(sha256=ref.sha256), timeout=timeout_s)
        try:
            async for answer in call:
                data += self._part(answer)
                if len(data) > ref.size:
                    raise BadRequest(f"{self.address}: asset {ref.name} is longer than its {ref.size} bytes")
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None
        finally:
            call.cancel()
        if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise BadRequest(
                f"{self.address}: asset {ref.name} came with {len(data)} bytes of {ref.size}, and not with its digest"
            )
        return bytes(data)

    async def link(self, hello: Hello, limits: Limits, timeout_s: float = 5.0, traffic: Traffic | None = None) -> Link:
        """A new Link, greeted. Raises DeadLink, Timeout, or BadRequest when the peer speaks another protocol."""
        link = Link(self._stub.link(), self.address, limits, traffic)
        await link.greet(hello, timeout_s)
        self._links = {other for other in self._links if other.alive} | {link}
        return link

    async def close(self) -> None:
        """Closes the Links that were opened here, then the channel."""
        for link in self._links:
            await link.close()
        await self._channel.close()

    def _part(self, answer: bytes) -> bytes:
        try:
            return pb.AssetPart.FromString(answer).data
        except DecodeError:
            raise BadRequest(f"{self.address}: an asset came in parts that protobuf cannot read") from None
