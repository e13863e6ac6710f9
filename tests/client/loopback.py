"""Real peers on loopback, in a MemoryDirectory: everything but the DHT and the weights. Their model is of hashes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import grpc.aio

from client import AsyncClient, Client, ClientConfig
from client.background import Background
from dht.memory import MemoryDirectory, MemoryStore
from model.assets import Asset
from peer.desk import Desk
from peer.neighbours import Neighbours
from peer.pages import PagePool
from peer.seat import Seat
from peer.seats import Seats, Terms
from peer.service import Service, asset_refs
from proto.limits import Limits
from proto.messages import Hello, Info, Neighbour
from swarm.clock import SystemClock
from tests.client.words import END, files
from tests.support.echo import serving
from tests.support.hash_engine import HIDDEN, MODEL, VOCAB, HashEngine, HashRunner, hash_peer

MAX_POSITIONS, PAGE = 256, 8
ADDRESS = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"


class Book(Seats):
    """Says so when a Seat leaves it."""

    def __init__(self, terms: Terms, pool: PagePool, changed: asyncio.Event):
        super().__init__(terms, pool, SystemClock())
        self._changed = changed

    def close(self, seat: Seat) -> None:
        super().close(seat)
        self._changed.set()


class Reception(Desk):
    """Counts the clients that ever came."""

    num_clients = 0

    def introduce(self, link: int, client: str) -> None:
        super().introduce(link, client)
        self.num_clients += not client.startswith("link ")  # a Peer has no name for that


class HashPeer:
    """A Peer but for its kernels: real service, desk, seats, scheduler and Links to others."""

    def __init__(self, number: int, span: tuple[int, int], changed: asyncio.Event):
        self.info = hash_peer(number, *span)
        self.engine = HashEngine(SystemClock())
        terms = Terms(MODEL, self.info.span, "c8", MAX_POSITIONS, PAGE, max_chunk_tokens=16)
        self.runner = HashRunner(self.info.kv_tokens // PAGE, PAGE)
        self.seats = Book(terms, PagePool(self.info.kv_tokens // PAGE), changed)
        hello, limits = Hello("0", self.info.peer_id), Limits(hidden_size=HIDDEN, vocab_size=VOCAB)
        self._neighbours = Neighbours(hello, limits, _anybody, SystemClock())
        self._desk = Reception(self.seats, self.engine, self._neighbours, self.info.peer_id)
        assets = [Asset(name, hashlib.sha256(data).hexdigest(), data) for name, data in files().items()]
        refs = asset_refs(assets)
        self._service = Service(
            self._desk, hello, limits,
            lambda: Info(self.info, refs, HIDDEN, VOCAB, MAX_POSITIONS, (END,)), assets,
        )  # fmt: skip
        self._server: grpc.aio.Server | None = None

    @property
    def links(self) -> int:
        """That clients ever opened."""
        return self._desk.num_clients

    async def start(self, stack: AsyncExitStack) -> None:
        computing = asyncio.create_task(self.engine.pump(self.runner, self._desk))
        stack.callback(computing.cancel)
        address, self._server = await stack.enter_async_context(serving(self._service))
        stack.push_async_callback(self._neighbours.close)
        self.info = replace(self.info, address=address, expires_at=time.time() + 50)

    async def stop(self) -> None:
        """As a SIGKILL would."""
        assert self._server is not None
        await self._neighbours.close()
        await self._server.stop(None)


async def _anybody(to: Neighbour) -> bool:
    return True


class Loopback:
    """A swarm of such peers on one event loop. ``stop(n)`` ends a peer as a SIGKILL would."""

    def __init__(self, spans: Sequence[tuple[int, int]], assets_dir: Path):
        self.changed = asyncio.Event()
        self.spans = spans
        self.peers: list[HashPeer] = []
        self.store = MemoryStore(SystemClock())
        self.directory = MemoryDirectory(self.store)
        self.config = ClientConfig(assets_dir=assets_dir, patience_s=0.2)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Loopback:
        for number, span in enumerate(self.spans, 1):
            peer = HashPeer(number, span, self.changed)
            self.peers.append(peer)
            await peer.start(self._stack)
            await self.directory.publish(peer.info)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def stop(self, number: int) -> None:
        await self.peers[number].stop()

    def client(self, **changes: object) -> AsyncClient:
        return AsyncClient(directory=self.directory, config=replace(self.config, **changes))  # type: ignore[arg-type]

    @property
    def seats(self) -> int:
        return sum(len(each.seats) for each in self.peers)

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
