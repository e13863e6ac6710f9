"""A swarm in one process, for the Session's tests: real entries, real admission rules, a model of hashes, virtual time.

The model: a Block turns a row into a digest of everything it has ever seen at this Seat, so a token depends on every
position at every Block, and one wrong, missing or doubled row anywhere changes every token after it. Nothing here
waits: a peer that does not answer costs virtual seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from client.config import ClientConfig
from client.journal import Budget
from client.session import Request, Session
from proto.messages import Advance, Body, Chunk, Close, Done, Entry, Hidden, Open, Opened, Token, Want, WireDType
from swarm.clock import VirtualClock
from swarm.errors import DeadLink, Fault, NoSeat, OutOfOrder, Refused, StaleEpoch, Timeout
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.sampling import SamplingParams
from swarm.span import Span
from swarm.view import SwarmView

BLOCKS = 6
HIDDEN, VOCAB = 4, 1000
MODEL = ModelRef("hashes", "ab" * 16, BLOCKS)
WALL = 1_000_000.0


def row_of(digest: bytes) -> bytes:
    """Four finite floats from a digest."""
    return struct.pack("<4f", *(int.from_bytes(digest[3 * i : 3 * i + 3], "little") for i in range(HIDDEN)))


class FakeSeat:
    def __init__(self, opening: Open, epoch: int):
        self.opening, self.epoch = opening, epoch
        self.position, self.step = 0, -1
        self.blocks = {b: b"%d" % b for b in opening.span}
        self.history = list(opening.history)

    def compute(self, chunk: Chunk) -> tuple[bytes, bytes]:
        """(all output rows, the last row's token digest)."""
        out = b""
        row = b""
        for i in range(chunk.count):
            if self.opening.span.start == 0:
                assert chunk.token_ids is not None
                row = row_of(hashlib.sha256(b"embed%d" % chunk.token_ids[i]).digest())
            else:
                assert chunk.hidden is not None
                row = chunk.hidden.data[16 * i : 16 * i + 16]
            for b in self.opening.span:
                self.blocks[b] = hashlib.sha256(self.blocks[b] + row).digest()
                row = row_of(self.blocks[b])
            out += row
        return out, row


class FakePeer:
    """One peer. ``misdeed`` turns an answer into something else, once or for as long as it likes."""

    def __init__(self, number: int, start: int, end: int, *, kv_tokens: int = 10_000, max_chunk_tokens: int = 16):
        self.info = PeerInfo(
            peer_id=f"{number:032x}", instance=1, model=MODEL, span=Span(start, end), address=f"10.0.0.{number}:1",
            profile="c8", state=PeerState.READY, version="0", kv_tokens=kv_tokens, kv_tokens_free=kv_tokens,
            sessions=0, queue_tokens=0, block_s=0.001, expires_at=WALL + 1e6,
        )  # fmt: skip
        self.kv_tokens, self.max_chunk_tokens = kv_tokens, max_chunk_tokens
        self.seats: dict[bytes, FakeSeat] = {}
        self.talks: list[FakeTalk] = []
        self.alive, self.frozen, self.slow = True, False, 0
        self.opened = 0  # Opens that were granted, ever
        self.misdeed: Callable[[Entry, Body], Body | None] | None = None
        self.backlog: list[tuple[FakeTalk, Entry]] = []

    def kill(self) -> None:
        self.alive = False
        self.seats.clear()
        for talk in self.talks:
            talk.inbox.clear()
        self.backlog.clear()

    def restart(self) -> None:
        self.kill()
        self.talks.clear()
        self.alive = True
        self.frozen = False
        self.info = replace(self.info, instance=self.info.instance + 1)

    def thaw(self) -> None:
        self.frozen = False
        for talk, entry in self.backlog:
            self.handle(talk, entry)
        self.backlog.clear()

    def handle(self, talk: FakeTalk, entry: Entry) -> None:
        if self.frozen:
            self.backlog.append((talk, entry))
            return
        try:
            answer = self._answer(entry)
        except Fault as fault:
            answer = fault
        if self.misdeed is not None and answer is not None:
            answer = self.misdeed(entry, answer)
        if answer is not None:
            talk.inbox.append(Entry(entry.session, entry.epoch, answer))

    def _answer(self, entry: Entry) -> Body | None:
        seat = self.seats.get(entry.session)
        match entry.body:
            case Open() as opening:
                assert seat is None, "a seat is opened once"
                assert self.info.span.covers(opening.span)
                assert (opening.sampling is not None) == (opening.span.end == BLOCKS)
                if opening.max_tokens > self.kv_tokens:
                    raise Refused(f"{opening.max_tokens} wanted, {self.kv_tokens} in all")
                if sum(s.opening.max_tokens for s in self.seats.values()) + opening.max_tokens > self.kv_tokens:
                    raise Refused("no pages free", 0.5)
                self.seats[entry.session] = FakeSeat(opening, entry.epoch)
                self.opened += 1
                return Opened(0, 60.0, self.max_chunk_tokens)
            case Close():
                self.seats.pop(entry.session, None)
                return None
            case Advance():
                if seat is None:
                    raise NoSeat("no such seat")
                seat.epoch = max(seat.epoch, entry.epoch)
                return Opened(seat.position, 60.0, self.max_chunk_tokens)
            case Chunk() as chunk:
                if seat is None:
                    raise NoSeat("no such seat")
                return self._step(seat, entry.epoch, chunk)
            case _:
                raise AssertionError(entry)

    def _step(self, seat: FakeSeat, epoch: int, chunk: Chunk) -> Body:
        if epoch < seat.epoch:
            raise StaleEpoch(f"{epoch} < {seat.epoch}")
        if chunk.step <= seat.step or chunk.position != seat.position:
            raise OutOfOrder(f"step {chunk.step} after {seat.step}, position {chunk.position} at {seat.position}")
        assert 1 <= chunk.count <= self.max_chunk_tokens and chunk.position + chunk.count <= seat.opening.max_tokens
        seat.epoch, seat.step, seat.position = epoch, chunk.step, chunk.position + chunk.count
        rows, last = seat.compute(chunk)
        if chunk.want is Want.NOTHING:
            return Done(chunk.step)
        if chunk.want is Want.HIDDEN:
            return Chunk(
                chunk.step, chunk.position, chunk.count, Want.NOTHING,
                hidden=Hidden(WireDType.F32, chunk.count, HIDDEN, rows),
            )  # fmt: skip
        sampling = seat.opening.sampling
        assert sampling is not None
        history = tuple(seat.history) if sampling.needs_history else ()
        salt = repr((sampling.seed if not sampling.greedy else None, seat.position, history)).encode()
        token_id = int.from_bytes(hashlib.sha256(last + salt).digest()[:4], "little") % VOCAB
        seat.history.append(token_id)
        return Token(chunk.step, seat.position, token_id)


class FakeTalk:
    def __init__(self, swarm: FakeSwarm, peer: FakePeer, session: bytes):
        self.swarm, self.peer, self.session = swarm, peer, session
        self.inbox: list[Entry] = []
        self.epoch = 0  # the highest one sent
        self.closed = False
        peer.talks.append(self)

    @property
    def _broken(self) -> bool:
        return self.closed or not self.peer.alive or self not in self.peer.talks

    def send(self, epoch: int, body: Body) -> None:
        if self._broken:
            raise DeadLink("the link is gone")
        if not isinstance(body, Close):
            self.swarm.before_event(self.peer)
        if self._broken:
            return  # as in life: what was sent is lost
        self.epoch = max(self.epoch, epoch)
        self.swarm.log.append((self.peer.info.peer_id, Entry(self.session, epoch, body)))
        self.peer.handle(self, Entry(self.session, epoch, body))
        if not isinstance(body, Close):
            self.swarm.after_event(self.peer)

    async def receive(self, timeout_s: float) -> Entry:
        await asyncio.sleep(0)
        if self._broken:
            raise DeadLink("the link is gone")
        self.inbox = [entry for entry in self.inbox if entry.epoch >= self.epoch]
        if self.peer.slow > 0 or not self.inbox:
            self.peer.slow -= 1
            self.swarm.clock.advance(timeout_s)
            raise Timeout("no answer")
        entry = self.inbox.pop(0)
        if isinstance(entry.body, Fault):
            raise entry.body
        return entry

    def close(self) -> None:
        self.closed = True


class FakeLine:
    def __init__(self, swarm: FakeSwarm, peer: FakePeer):
        self.swarm, self.peer = swarm, peer

    def conversation(self, session: bytes) -> FakeTalk:
        return FakeTalk(self.swarm, self.peer, session)


class EagerClock(VirtualClock):
    """Whoever sleeps on it moves it. ``alarms`` go off when their time has come."""

    def __init__(self, wall: float):
        super().__init__(wall=wall)
        self.alarms: list[tuple[float, Callable[[], None]]] = []

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        due = [ring for at, ring in self.alarms if at <= self.monotonic()]
        self.alarms = [(at, ring) for at, ring in self.alarms if at > self.monotonic()]
        for ring in due:
            ring()


class FakeSwarm:
    """Peers, the client's Scout and its Links in one. ``events`` counts the entries peers were sent, but for Close.

    ``at`` maps an event to what is to happen just before, ``past`` just after the peer computed it and before the
    client reads it.
    """

    def __init__(self, *peers: FakePeer):
        self.clock = EagerClock(wall=WALL)
        self.peers = {p.info.peer_id: p for p in peers}
        self.hidden: set[str] = set()  # not in the view
        self.banned: set[str] = set()
        self.at: dict[int, Callable[[FakePeer], None]] = {}
        self.past: dict[int, Callable[[FakePeer], None]] = {}
        self.events = 0
        self.log: list[tuple[str, Entry]] = []  # (peer_id, what it was sent)

    def before_event(self, peer: FakePeer) -> None:
        self.at.pop(self.events, _nothing)(peer)

    def after_event(self, peer: FakePeer) -> None:
        self.past.pop(self.events, _nothing)(peer)
        self.events += 1

    # Scout
    @property
    def view(self) -> SwarmView:
        return SwarmView.of(MODEL, [p.info for i, p in self.peers.items() if i not in self.hidden], self.clock.wall())

    def rtt_s(self, peer: PeerInfo) -> float:
        return 0.01

    def ban(self, peer: PeerInfo, reason: str = "") -> None:
        self.banned.add(peer.peer_id)

    def forgive(self, peer: PeerInfo) -> None:
        self.banned.discard(peer.peer_id)

    async def refresh(self) -> None:
        await asyncio.sleep(0)

    # Lines
    async def get(self, peer: PeerInfo) -> FakeLine:
        await asyncio.sleep(0)
        there = self.peers[peer.peer_id]
        if not there.alive:
            raise DeadLink("connection refused")
        if there.frozen:
            self.clock.advance(5.0)
            if there.frozen:
                raise Timeout("no greeting")
        return FakeLine(self, there)

    async def responsive(self, peer: PeerInfo) -> PeerInfo | None:
        await asyncio.sleep(0)
        there = self.peers[peer.peer_id]
        return there.info if there.alive and not there.frozen else None

    @property
    def seats(self) -> int:
        """Seats held anywhere, once everybody frozen is well again."""
        for peer in self.peers.values():
            peer.thaw()
        return sum(len(p.seats) for p in self.peers.values())

    def session(
        self, prompt: Sequence[int] = tuple(range(1, 41)), new: int = 8,
        *, sampling: SamplingParams | None = None, budget: Budget | None = None, config: ClientConfig | None = None,
        name: bytes | None = None,
    ) -> Session:  # fmt: skip
        request = Request(MODEL, "c8", tuple(prompt), new, sampling or SamplingParams(), HIDDEN, VOCAB)
        return Session(
            request, self, self, budget or Budget(1 << 30), config or ClientConfig(prefill_chunk=16),
            clock=self.clock, **({} if name is None else {"random_bytes": lambda n: name[:n]}),
        )  # fmt: skip


def _nothing(peer: FakePeer) -> None:
    pass


async def run(session: Session, new: int = 8) -> list[int]:
    """The tokens of the whole Session, closed in any case."""
    async with session:
        return [(await session.next()).token_id for _ in range(new)]


async def undisturbed(
    prompt: Sequence[int] = tuple(range(1, 41)), new: int = 8, sampling: SamplingParams | None = None
) -> list[int]:
    """What one peer with the whole model says."""
    return await run(FakeSwarm(FakePeer(1, 0, BLOCKS)).session(prompt, new, sampling=sampling), new)
