"""FakePeers behind real gRPC servers on loopback, in a MemoryDirectory: everything but the DHT and the weights."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import grpc.aio

from client import AsyncClient, Client, ClientConfig
from client.background import Background
from dht.memory import MemoryDirectory, MemoryStore
from proto import shoal_pb2 as pb
from proto.info import encode_info_reply
from proto.messages import AssetRef, Entry, Hello, Info
from swarm.clock import SystemClock
from tests.client.fakes import HIDDEN, MODEL, VOCAB, FakePeer
from tests.client.words import END, files
from tests.support.echo import EchoPeer, serving

MAX_POSITIONS = 256
ADDRESS = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"


class Inbox:
    def __init__(self) -> None:
        self.inbox: list[Entry] = []


class HashPeer(EchoPeer):
    """A FakePeer on the wire. Its Seats go with its Link."""

    def __init__(self, peer: FakePeer, changed: asyncio.Event):
        assets = {AssetRef(n, hashlib.sha256(d).hexdigest(), len(d)): d for n, d in files().items()}
        super().__init__(self._handle, hello=Hello("0", peer.info.peer_id), assets=assets)
        self.peer = peer
        self.changed = changed
        self.links = 0

    def _handle(self, entry: Entry) -> list[Entry]:
        box = Inbox()
        self.peer.handle(box, entry)  # type: ignore[arg-type]
        self.changed.set()
        return box.inbox

    async def Info(self, request: pb.InfoRequest, context: object) -> pb.InfoReply:
        return encode_info_reply(Info(self.peer.info, tuple(self._assets), HIDDEN, VOCAB, MAX_POSITIONS, (END,)))

    async def Link(self, requests: AsyncIterator[bytes], context: object) -> AsyncIterator[pb.Frame]:
        self.links += 1
        try:
            async for frame in super().Link(requests, context):
                yield frame
        finally:
            self.peer.seats.clear()
            self.changed.set()


class Loopback:
    """A swarm of such peers on one event loop. ``stop(n)`` ends a peer's server as a SIGKILL would."""

    def __init__(self, spans: Sequence[tuple[int, int]], assets_dir: Path):
        self.changed = asyncio.Event()
        self.peers = [HashPeer(FakePeer(n, *span), self.changed) for n, span in enumerate(spans, 1)]
        self.store = MemoryStore(SystemClock())
        self.directory = MemoryDirectory(self.store)
        self.config = ClientConfig(assets_dir=assets_dir, patience_s=0.2)
        self.servers: list[grpc.aio.Server] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Loopback:
        for each in self.peers:
            address, server = await self._stack.enter_async_context(serving(each))
            self.servers.append(server)
            each.peer.info = replace(each.peer.info, address=address, expires_at=time.time() + 50)
            await self.directory.publish(each.peer.info)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def stop(self, number: int) -> None:
        await self.servers[number].stop(None)

    def client(self, **changes: object) -> AsyncClient:
        return AsyncClient(directory=self.directory, config=replace(self.config, **changes))  # type: ignore[arg-type]

    @property
    def seats(self) -> int:
        return sum(len(each.peer.seats) for each in self.peers)

    async def empty(self) -> None:
        """Until no Seat is held: Close travels, and is not answered."""
        async with asyncio.timeout(10):
            while self.seats:
                self.changed.clear()
                await self.changed.wait()


class ClientOf(Client):
    """A Client whose core finds its swarm in a directory that is handed to it."""

    loopback: Loopback

    def _core(self) -> AsyncClient:
        config = replace(self.loopback.config, prefill_chunk=self._config.prefill_chunk)
        return AsyncClient(directory=self.loopback.directory, model=self._model, config=config)


class InThread:
    """A Loopback on a loop of its own, for tests that block."""

    def __init__(self, loopback: Loopback):
        self.loopback = loopback
        self._background = Background("peers")

    def __enter__(self) -> type[ClientOf]:
        self._background.run(self.loopback.__aenter__())
        return type("ClientOfLoopback", (ClientOf,), {"loopback": self.loopback})

    def empty(self) -> None:
        self._background.run(self.loopback.empty())

    def stop(self, number: int) -> None:
        self._background.run(self.loopback.stop(number))

    def __exit__(self, *_: object) -> None:
        self._background.run(self.loopback.__aexit__())
        self._background.close()


__all__ = ["ADDRESS", "MODEL", "ClientOf", "HashPeer", "InThread", "Loopback"]
