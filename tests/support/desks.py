"""Desks in one process, whose engines compute when told to, and whose letters to each other arrive when told to.

What they compute: a row is its position, and so is a token.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from peer.desk import Desk
from peer.engine import Engine, Output
from peer.pages import PagePool
from peer.scheduler import Scheduler, Work
from peer.seat import Answer
from peer.seats import Seats
from proto.link import Ear
from proto.messages import Body, Chunk, Entry, Hidden, Kept, Neighbour, Open, Path, Token, Want, WireDType
from swarm.clock import VirtualClock
from swarm.errors import DeadLink, Fault, Overflow
from swarm.span import Span
from tests.support.seats import opening, terms

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def rows_from(chunk: Chunk) -> Chunk:
    """What a Hop before the end makes of a Chunk."""
    data = b"".join(struct.pack("<2f", position, 0.0) for position in range(chunk.position, chunk.end))
    return replace(chunk, token_ids=None, hidden=Hidden(WireDType.F32, chunk.count, 2, data))


def drawn_from(chunk: Chunk) -> tuple[Token, ...]:
    """What the last Hop draws: as many tokens as drafts are right, and one more."""
    first = chunk.end - len(chunk.drafts)
    right = 0
    while right < len(chunk.drafts) and chunk.drafts[right] == first + right:
        right += 1
    return tuple(Token(chunk.step, position, position) for position in range(first, first + right + 1))


def answer_to(work: Work[Any]) -> Answer:
    chunk, at_end = work.chunk, work.seat.at_end
    if not at_end or chunk.want is Want.HIDDEN:
        return rows_from(chunk)
    return drawn_from(chunk) if chunk.want is Want.TOKEN else ()


class NoPost:
    """For a desk whose Seats have no neighbours."""

    def send(self, to: Neighbour, entry: Entry, ear: Ear) -> None:
        raise AssertionError("nothing is sent to a neighbour here")

    def forget(self, to: Neighbour) -> None:
        pass


class Pile:
    """An outbox that keeps everything, up to ``room`` entries of a Session that are not Faults."""

    def __init__(self, room: int = 1000):
        self.room = room
        self.entries: list[Entry] = []
        self.kept: list[Entry] = []  # what was said of prefixes
        self.closed = False

    def put(self, entry: Entry) -> None:
        if isinstance(entry.body, Kept):
            self.kept.append(entry)
            return
        held = sum(known.session == entry.session for known in self.entries)
        if held >= self.room and not isinstance(entry.body, Fault):
            raise Overflow(f"{held} entries are waiting")
        self.entries.append(entry)

    def drop(self, session: bytes) -> None:
        self.entries = [entry for entry in self.entries if entry.session != session]

    def close(self) -> None:
        self.closed = True

    def take(self) -> list[Entry]:
        taken, self.entries = self.entries, []
        return taken

    def bodies(self) -> list[type]:
        return [type(entry.body) for entry in self.take()]


class Table:
    """A desk, and a client's Link to it. ``post`` is None where nobody is sent to."""

    def __init__(self, post: Any = None, peer_id: str = "f" * 32, **changes: Any):
        self.clock = VirtualClock()
        self.pool = PagePool(64)
        self.scheduler: Scheduler[Any] = Scheduler(prefill_tokens=16, max_decodes=8)
        self.engine = Engine(self.scheduler, self.clock)
        self.peer_id = peer_id
        self.desk = Desk(Seats(terms(**changes), self.pool, self.clock), self.engine, post or NoPost(), peer_id)
        self.pile = Pile()
        self.link = self.desk.join(self.pile)

    def say(self, body: Body, session: bytes = A, epoch: int = 0, link: int | None = None) -> list[Entry]:
        """What the client hears at once."""
        self.desk.receive(self.link if link is None else link, Entry(session, epoch, body))
        return self.pile.take()

    def begin(self, request: Open | None = None, session: bytes = A) -> None:
        """A Seat whose outputs go to the client."""
        self.say(request or opening(), session=session)
        self.say(Path(0, None, 0), session=session)

    def batch(self) -> list[Work[Any]]:
        """The next Batch, with its Pages."""
        batch = self.scheduler.next_batch(self.clock.monotonic())
        if batch is None:
            return []
        return list(self.desk.seats.house(batch.works, self.scheduler.waits).go)

    def deliver(self, works: Iterable[Work[Any]], how: Callable[[Work[Any]], Any] = answer_to) -> list[Entry]:
        works = list(works)
        self.desk.deliver([Output(work, how(work), 0.5, 0.25) for work in works])
        return self.pile.take()

    def compute(self, how: Callable[[Work[Any]], Any] = answer_to) -> list[Entry]:
        """All that is queued; what the client hears."""
        heard = self.pile.take()
        while self.scheduler.queue_tokens:
            works = self.batch()
            if not works:
                self.clock.advance(self.scheduler.look_again_s or 0.001)
            heard += self.deliver(works, how)
        return heard

    def seat(self, session: bytes = A) -> Neighbour:
        """A Seat here, as a Path names it."""
        return Neighbour(self.peer_id, "10.0.0.1:4000", session, self.desk.seats.terms.max_chunk_tokens)


class Swarm:
    """Tables with Links between them. ``say`` puts a client's word to one; ``settle`` lets everything happen."""

    def __init__(self, *spans: Span, **changes: Any):
        self.letters: deque[Callable[[], None]] = deque()
        self.sent: list[tuple[int, int, Entry]] = []  # from table, to table, what
        self.gone: set[int] = set()
        self.heard: list[tuple[int, Entry]] = []  # by the client, from table
        self.tables = [
            Table(_Post(self, number), f"{number:032x}", span=span, **changes) for number, span in enumerate(spans)
        ]

    def say(self, number: int, body: Body, session: bytes = A, epoch: int = 0) -> list[Entry]:
        heard = self.tables[number].say(body, session, epoch)
        self.heard += [(number, entry) for entry in heard]
        return heard

    def step(self) -> bool:
        """One letter arrives or, where there is none, everybody computes a Batch. Whether anything was to be done."""
        if self.letters:
            self.letters.popleft()()
            self._hear()
            return True
        moved = False
        for number, table in enumerate(self.tables):
            if number not in self.gone and table.scheduler.queue_tokens:
                table.clock.advance(table.scheduler.look_again_s or 0.001)
                self.heard += [(number, entry) for entry in table.deliver(table.batch())]
                moved = True
        return moved

    def settle(self, most: int = 10_000) -> list[tuple[int, Entry]]:
        """Until nothing is left to do; what the client heard since the last time."""
        while self.step():
            most -= 1
            assert most, "this goes on for ever"
        heard, self.heard = self.heard, []
        return heard

    def lose(self, number: int) -> None:
        """A Peer dies: whoever is sent to it from now on hears so."""
        self.gone.add(number)

    def _hear(self) -> None:
        for number, table in enumerate(self.tables):
            self.heard += [(number, entry) for entry in table.pile.take()]


class _Post:
    """The post of one table, with a Link to every other."""

    def __init__(self, swarm: Swarm, number: int):
        self._swarm, self._number = swarm, number
        self._links: dict[int, int] = {}
        self.ears: dict[bytes, Ear] = {}

    def send(self, to: Neighbour, entry: Entry, ear: Ear) -> None:
        swarm, number = self._swarm, int(to.peer_id, 16)
        assert self.ears.get(to.seat, ear) is ear and entry.session == to.seat
        if number in swarm.gone:
            swarm.letters.append(lambda: ear.fail(DeadLink(f"{to.address} is gone")))
            return
        self.ears[to.seat] = ear
        there = swarm.tables[number].desk
        if number not in self._links:
            self._links[number] = there.join(_Return(self))
        swarm.sent.append((self._number, number, entry))
        swarm.letters.append(lambda: number in swarm.gone or there.receive(self._links[number], entry))

    def forget(self, to: Neighbour) -> None:
        self.ears.pop(to.seat, None)

    def bring_back(self, entry: Entry) -> None:
        def arrive() -> None:
            if entry.session in self.ears:
                self.ears[entry.session].hear(entry)

        self._swarm.letters.append(arrive)


class _Return:
    """The way back over a Link between two tables."""

    def __init__(self, post: _Post):
        self.put = post.bring_back

    def drop(self, session: bytes) -> None:
        pass

    def close(self) -> None:
        pass
