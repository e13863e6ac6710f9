"""A Peer's service on a real socket, over a runner of the test's choice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from model.assets import Asset
from peer.desk import Desk
from peer.engine import Computing, Engine
from peer.neighbours import Known, Neighbours
from peer.pages import PagePool
from peer.scheduler import Scheduler, Work
from peer.seat import Answer, Seat
from peer.seats import Seats, Terms
from peer.server import GrpcServer
from peer.service import Service, asset_refs
from proto.connection import Connection
from proto.limits import Limits
from proto.link import Link
from proto.messages import Hello, Info, Neighbour
from proto.outbox import Outbox
from swarm.address import Address
from swarm.clock import Clock, SystemClock
from swarm.errors import Fault
from swarm.peerinfo import PeerInfo, PeerState
from tests.support.compute import FakeRunner
from tests.support.desks import rows_from

PEER_ID = "fedcba9876543210" * 2
HELLO = Hello("0.0-test")


@dataclass
class Host:
    address: str
    desk: Desk
    pool: PagePool
    server: GrpcServer
    connection: Connection
    neighbours: Neighbours
    peer_id: str

    def seat(self, session: bytes) -> Neighbour:
        """A Seat here, as a Path names it."""
        return Neighbour(self.peer_id, self.address, session, self.desk.seats.terms.max_chunk_tokens)

    async def link(self) -> Link:
        return await self.connection.link(HELLO, Limits())

    async def settled(self, num_links: int = 0) -> None:
        """Returns once only so many Links are left."""
        async with asyncio.timeout(10):
            while self.desk.num_links != num_links:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # a Link that ends in gRPC tells nobody


class HopRunner(FakeRunner):
    """Before the end of the model a row is its position, and at the end so is a Token."""

    def __init__(self, num_blocks: int = 8):
        super().__init__()
        self._num_blocks = num_blocks

    def run(self, works: Sequence[Work[Seat]]) -> list[Answer | Fault]:
        answers = super().run(works)
        for index, (work, answer) in enumerate(zip(works, answers, strict=True)):
            if work.seat.request.span.end < self._num_blocks and not isinstance(answer, Fault):
                answers[index] = rows_from(work.chunk)
        return answers


async def anybody(to: Neighbour) -> bool:
    return True


@asynccontextmanager
async def hosting(
    runner: Computing,
    terms: Terms,
    *,
    num_pages: int = 64,
    hidden_size: int = 2,
    vocab_size: int = 500,
    max_links: int = 8,
    hello_timeout_s: float = 10.0,
    assets: Sequence[Asset] = (),
    clock: Clock | None = None,
    outbox: Callable[[], Outbox] = Outbox,
    peer_id: str = PEER_ID,
    known: Known = anybody,
) -> AsyncIterator[Host]:
    pool = PagePool(num_pages)
    clock = clock or SystemClock()
    limits = Limits(hidden_size=hidden_size, vocab_size=vocab_size, max_chunk_tokens=terms.max_chunk_tokens)
    hello = Hello("0.0-test", peer_id)
    neighbours = Neighbours(hello, limits, known, clock)
    engine = Engine(Scheduler(prefill_tokens=terms.max_chunk_tokens, max_decodes=64))
    desk = Desk(Seats(terms, pool, clock), engine, neighbours, peer_id)
    server = GrpcServer()
    address = await server.bind(Address("127.0.0.1", 0))

    def info() -> Info:
        seats = desk.seats
        peer = PeerInfo(
            peer_id, 1, terms.model, terms.span, str(address), terms.profile, PeerState.READY, "0.0-test",
            seats.kv_tokens, seats.kv_tokens_free, len(seats), engine.queue_tokens, 0.001, 2e9,
        )  # fmt: skip
        return Info(peer, asset_refs(assets), hidden_size, vocab_size, terms.max_positions, (0,))

    service = Service(
        desk,
        hello,
        limits,
        info,
        assets,
        max_links=max_links,
        hello_timeout_s=hello_timeout_s,
        outbox=outbox,
    )
    await server.start(service)

    async def pump() -> None:
        async for outputs in engine.outputs(runner, desk.seats.house):
            desk.deliver(outputs)

    pumping = asyncio.create_task(pump())
    connection = Connection(str(address))
    try:
        yield Host(str(address), desk, pool, server, connection, neighbours, peer_id)
    finally:
        await connection.close()
        await neighbours.close()
        await server.stop(0)
        pumping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pumping
        engine.close()
