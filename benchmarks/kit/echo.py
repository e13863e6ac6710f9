"""What the bare wire costs: gRPC messages of a size, there and back, to a process that does nothing else.

``Echo`` is the near end; ``python -m benchmarks.kit.echo`` the far one, which offers the Peer's Link call and sends
back what comes, with no Hello, no Seats and no arithmetic. Both ends use the Peer's own gRPC settings.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

from benchmarks.kit.workers import Worker
from peer.server import GrpcServer
from proto import shoal_pb2 as pb
from proto.connection import Connection
from proto.rpc import Context
from swarm.address import Address


class Echo:
    """An async context manager that leaves no process and no channel behind."""

    def __init__(self, num_bytes: int):
        self._frame = pb.Frame(entries=[pb.Entry(session=bytes(num_bytes))])
        self._worker = Worker("benchmarks.kit.echo", timeout_s=30.0)

    async def __aenter__(self) -> Echo:
        address = await asyncio.to_thread(self._worker.ask, "address")
        self._connection = Connection(address)
        # Links greet; a bare stream is not to be had otherwise, and gRPC is proto's alone.
        self._call = self._connection._stub.link()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()
        await self._connection.close()
        self._worker.__exit__()

    async def round_trip_s(self) -> float:
        begun = time.perf_counter()
        await self._call.write(self._frame)
        await self._call.read()
        return time.perf_counter() - begun


class _Service:
    async def Link(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[pb.Frame]:
        async for data in requests:
            yield pb.Frame.FromString(data)

    def Info(self, request: pb.InfoRequest, context: Context) -> Any:
        raise NotImplementedError

    def Asset(self, request: pb.AssetRequest, context: Context) -> Any:
        raise NotImplementedError


async def _serve() -> None:
    server = GrpcServer()
    address = await server.bind(Address("127.0.0.1", 0))
    await server.start(_Service())
    await asyncio.to_thread(sys.stdin.readline)  # the one question there is
    print(f'"{address}"', flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until nobody is there any more
    await server.stop(0.0)


if __name__ == "__main__":
    asyncio.run(_serve())
