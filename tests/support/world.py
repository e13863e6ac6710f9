"""A swarm in one process and on virtual time: real Sessions, real desks, seats and schedulers; a model of hashes.

Entries travel in order and take a while; ``events`` counts those that arrive anywhere, and ``at`` says what is to
happen just before which. ``bend`` of a peer makes something else of what it says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from client.bans import Bans
from client.config import ClientConfig
from client.feed import Drafting
from client.journal import Budget
from client.prefixes import Prefixes
from client.request import Request
from client.session import Session
from peer.desk import Desk
from peer.journals import Journals
from peer.pages import PagePool
from peer.seats import Seats, Terms
from proto.link import Ear
from proto.messages import Close, Entry, Neighbour
from swarm.errors import DeadLink, Timeout
from swarm.peerinfo import PeerInfo
from swarm.sampling import SamplingParams
from swarm.view import SwarmView
from tests.support.hash_engine import HIDDEN, MODEL, VOCAB, HashEngine, HashRunner, hash_peer
from tests.support.virtual_loop import LoopClock

PAGE = 8
STEP_S = 0.01  # a Batch
TRIP_S = 0.005  # an entry
PROMPT = tuple(range(1, 41))
NEW = 8

CLIENT = "c" * 32

Bend = Callable[[Entry], Entry | None]


class Wire:
    """One direction of a Link: what is put arrives in order, a while later, unless the Link is cut."""

    def __init__(
        self, world: World, arrive: Callable[[Entry], None], source: WorldPeer | None, target: WorldPeer | None
    ):
        self._world, self._arrive, self._source, self._target = world, arrive, source, target
        self._last = 0.0
        self.cut = False

    def put(self, entry: Entry) -> None:
        bent = entry if self._source is None or self._source.bend is None else self._source.bend(entry)
        if bent is None:
            return
        loop = asyncio.get_running_loop()
        self._last = max(self._last + 1e-6, loop.time() + self._world.trip_s())
        loop.call_at(self._last, self._land, bent)

    def drop(self, session: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def _land(self, entry: Entry) -> None:
        if self.cut:
            return
        if self._target is not None and self._target.frozen:
            self._target.backlog.append(lambda: self._land(entry))
            return
        if not isinstance(entry.body, Close):
            self._world.before_event()
        if not self.cut:
            if self._target is not None:
                self._world.log.append((self._target.number, entry))
            self._arrive(entry)


class WorldLink:
    """A Link between somebody who listens with ears and a peer's desk."""

    def __init__(self, world: World, peer: WorldPeer, owner: WorldPeer | None, client: str = CLIENT):
        self.peer, self.owner = peer, owner
        self.ears: dict[bytes, Ear] = {}
        self.back = Wire(world, self._hear, peer, owner)
        self.number = peer.desk.join(self.back)
        peer.desk.introduce(self.number, client)
        self.forth = Wire(world, lambda entry: peer.desk.receive(self.number, entry), owner, peer)
        self.failure: DeadLink | None = None

    def attach(self, session: bytes, ear: Ear) -> None:
        assert self.ears.get(session, ear) is ear
        if self.failure is not None:
            ear.fail(self.failure)
        else:
            self.ears[session] = ear

    def detach(self, session: bytes) -> None:
        self.ears.pop(session, None)

    def send(self, entry: Entry) -> None:
        if self.failure is not None:
            raise self.failure
        self.forth.put(entry)

    def cut(self) -> None:
        """The one end is gone: the other hears, and the desk frees what came over it."""
        if self.failure is not None:
            return
        self.failure = DeadLink("the link is gone")
        self.forth.cut = self.back.cut = True
        self.peer.desk.leave(self.number)
        ears, self.ears = list(self.ears.values()), {}
        for ear in ears:
            ear.fail(self.failure)

    def _hear(self, entry: Entry) -> None:
        ear = self.ears.get(entry.session)
        if ear is not None:
            ear.hear(entry)


class WorldPeer:
    """A Peer: its desk is real. Also the post of that desk: how it sends to others."""

    def __init__(self, world: World, number: int, span: tuple[int, int], kv_tokens: int, vocab: int):
        self.world, self.number = world, number
        self.info = hash_peer(number, *span, kv_tokens=kv_tokens)
        self.alive, self.frozen = True, False
        self.bend: Bend | None = None
        self.backlog: list[Callable[[], None]] = []
        self._thawed = asyncio.Event()
        self._vocab = vocab
        self._begin()

    def _begin(self) -> None:
        terms = Terms(
            MODEL, self.info.span, "c8", max_positions=1000, page_size=PAGE, max_chunk_tokens=16, lease_s=60.0
        )
        num_pages = self.info.kv_tokens // PAGE
        self.engine = HashEngine(LoopClock(), step_s=STEP_S, awake=self._awake)
        self.runner = HashRunner(num_pages, PAGE, self._vocab)
        self.seats = Seats(terms, PagePool(num_pages, self.world.overcommit), LoopClock(), self.world.swap_bytes)
        self.desk = Desk(self.seats, self.engine, self, self.info.peer_id, journals=Journals(*self.world.journal_bytes))
        self.roads: dict[str, WorldLink] = {}
        self._task = asyncio.get_running_loop().create_task(self.engine.pump(self.runner, self.desk))
        self._task.add_done_callback(_raise_mistake)

    async def _awake(self) -> None:
        while self.frozen:
            self._thawed.clear()
            await self._thawed.wait()

    def send(self, to: Neighbour, entry: Entry, ear: Ear) -> None:
        other = self.world.peers[to.peer_id]
        if (self.info.peer_id, to.peer_id) in self.world.apart_now or not other.alive:
            asyncio.get_running_loop().call_later(1.0, ear.fail, DeadLink("it cannot be reached"))
            return
        road = self.roads.get(to.peer_id)
        if road is None or road.failure is not None:
            road = self.roads[to.peer_id] = WorldLink(self.world, other, self)
            self.world.links.append(road)
        try:
            road.attach(to.seat, ear)
            road.send(entry)
        except DeadLink as fault:
            ear.fail(fault)

    def forget(self, to: Neighbour) -> None:
        road = self.roads.get(to.peer_id)
        if road is not None:
            road.detach(to.seat)

    def kill(self) -> None:
        self.alive = self.frozen = False
        self.backlog.clear()
        self._task.cancel()
        for link in [link for link in self.world.links if self in (link.peer, link.owner)]:
            link.cut()

    def restart(self) -> None:
        self.kill()
        self.alive = True
        self.info = replace(self.info, instance=self.info.instance + 1)
        self._begin()

    def freeze(self) -> None:
        self.frozen = self.alive

    def thaw(self) -> None:
        self.frozen = False
        self._thawed.set()
        backlog, self.backlog = self.backlog, []
        for land in backlog:
            land()

    def expire(self) -> None:
        """All leases run out at once."""
        for seat in self.seats:
            seat.expires_at = 0.0
        self.desk.sweep()


class World:
    """Peers, the client's Scout and its Lines in one. Make it on a running VirtualLoop. Peers are numbered from 1."""

    def __init__(
        self, *spans: tuple[int, int], seed: int = 0, kv_tokens: int = 1000, vocab: int = VOCAB,
        overcommit: float = 1.0, swap_bytes: int = 1 << 30, journal_bytes: tuple[int, int] = (1 << 28, 1 << 32),
    ):  # fmt: skip
        self.overcommit, self.swap_bytes, self.journal_bytes = overcommit, swap_bytes, journal_bytes
        self.links: list[WorldLink] = []
        self.events = 0
        self.at: dict[int, Callable[[], None]] = {}
        self.log: list[tuple[int, Entry]] = []  # (the peer's number, what it was told)
        self.apart_pairs: set[tuple[str, str]] = set()  # what the client has found out
        self.apart_now: set[tuple[str, str]] = set()
        self.hidden: set[str] = set()  # not in the view
        self.clock = LoopClock()
        self._bans = Bans(self.clock)
        self._chance = random.Random(seed)
        self._lines: dict[tuple[str, int, str], WorldLink] = {}
        self.list = [WorldPeer(self, n, span, kv_tokens, vocab) for n, span in enumerate(spans, 1)]
        self.peers = {peer.info.peer_id: peer for peer in self.list}

    def ids(self, *numbers: int) -> tuple[str, ...]:
        return tuple(f"{number:032x}" for number in numbers)

    def separate(self, one: int, other: int) -> None:
        """The peer at index ``one`` cannot reach that at ``other``."""
        self.apart_now.add((self.list[one].info.peer_id, self.list[other].info.peer_id))

    def trip_s(self) -> float:
        return TRIP_S * (0.5 + self._chance.random())

    def before_event(self) -> None:
        self.at.pop(self.events, lambda: None)()
        self.events += 1

    # Scout
    @property
    def view(self) -> SwarmView:
        present = [p.info for p in self.list if p.alive and p.info.peer_id not in self.hidden]
        return SwarmView.of(MODEL, present, 0.0)

    @property
    def banned(self) -> set[str]:
        return {p.info.peer_id for p in self.list if self._bans.holds(p.info)}

    def rtt_s(self, peer: PeerInfo) -> float:
        return 0.01

    def ban(self, peer: PeerInfo, reason: str = "") -> None:
        self._bans.add(peer, reason)

    def forgive(self, peer: PeerInfo) -> None:
        self._bans.forgive(peer)

    async def refresh(self) -> None:
        await asyncio.sleep(0)

    # Lines
    async def get(self, peer: PeerInfo, client: str = CLIENT) -> WorldLink:
        there = self.peers[peer.peer_id]
        await asyncio.sleep(TRIP_S)
        if not there.alive:
            raise DeadLink("connection refused")
        key = (peer.peer_id, there.info.instance, client)
        if key not in self._lines or self._lines[key].failure is not None:
            if there.frozen:
                await asyncio.sleep(2.5)
                raise Timeout("no greeting")
            self._lines[key] = WorldLink(self, there, None, client)
            self.links.append(self._lines[key])
        return self._lines[key]

    async def responsive(self, peer: PeerInfo) -> PeerInfo | None:
        there = self.peers[peer.peer_id]
        await asyncio.sleep(1.5 if there.frozen else 2 * TRIP_S)
        well = there.alive and not there.frozen
        return replace(there.info, queue_tokens=there.engine.queue_tokens) if well else None

    def session(
        self, prompt: Sequence[int] = PROMPT, new: int = NEW, *, sampling: SamplingParams | None = None,
        budget: Budget | None = None, seed: int = 1, drafter: Drafting | None = None, stops: Sequence[int] = (),
        prefixes: Prefixes | None = None, client: str = CLIENT, guided: bool = False, **config: object,
    ) -> Session:  # fmt: skip
        request = Request(
            MODEL, "c8", tuple(prompt), new, sampling or SamplingParams(), HIDDEN, VOCAB, tuple(sorted(stops)), guided
        )
        choices: dict[str, object] = {"prefill_chunk": 8, **config}
        return Session(
            request, self, _Lines(self, client), budget or Budget(1 << 30), ClientConfig(**choices),  # type: ignore[arg-type]
            clock=self.clock, random_bytes=random.Random(seed).randbytes, drafter=drafter,
            prefixes=Prefixes(PAGE) if prefixes is None else prefixes,
        )  # fmt: skip

    async def quiet(self) -> None:
        """Until everything under way has landed."""
        for peer in self.list:
            if peer.frozen:
                peer.thaw()
        await asyncio.sleep(5.0)

    @property
    def num_seats(self) -> int:
        return sum(len(peer.seats) for peer in self.list if peer.alive)


class _Lines:
    """``client.lane.Lines`` of a World."""

    def __init__(self, world: World, client: str):
        self._world, self._client = world, client
        self.responsive = world.responsive

    async def get(self, peer: PeerInfo) -> WorldLink:
        return await self._world.get(peer, self._client)

    def apart(self, one: PeerInfo, other: PeerInfo) -> bool:
        return (one.peer_id, other.peer_id) in self._world.apart_pairs

    def set_apart(self, one: PeerInfo, other: PeerInfo) -> None:
        self._world.apart_pairs.add((one.peer_id, other.peer_id))


def _raise_mistake(task: asyncio.Task[None]) -> None:
    """What an engine died of is the loop's to report: ``run_virtually`` raises it."""
    if not task.cancelled():
        task.result()


async def generate(session: Session, new: int = NEW) -> list[int]:
    """The tokens of the whole Session, closed in any case."""
    async with session:
        return [(await session.next()).token_id for _ in range(new)]
