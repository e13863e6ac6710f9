"""A Peer's Seats, their Housing and Pages with something in them, without desk, scheduler or time.

What is computed is checked against what the tokens lead to, row by row, so a Page that somebody else wrote, or that
came back wrong, is seen. A Batch may be under way while other things happen: its jobs run when it ends.
"""

from __future__ import annotations

import struct
from collections import Counter, deque

from blake3 import blake3

from peer.housing import Housed
from peer.pages import PagePool
from peer.scheduler import Work
from peer.seat import Accept, Seat
from peer.seats import Seats, Terms
from proto.messages import Chunk, Fork, Open, Want
from swarm.clock import VirtualClock
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support.hash_engine import BLOCKS, MODEL, HashRunner, rows_after

PAGE = 4
MORE = 12  # positions that a Seat may take after its prompt
WHOLE = Span(0, BLOCKS)

Text = tuple[int, ...]


class Home:
    """``text`` of a Seat are the tokens whose KV it has, or will have once its queue is computed."""

    def __init__(self, num_pages: int = 16, overcommit: float = 1.0, swap_bytes: int = 1 << 30):
        terms = Terms(MODEL, WHOLE, "c8", 256, PAGE, max_sessions=8, max_chunk_tokens=16)
        self.pool = PagePool(num_pages, overcommit)
        self.seats = Seats(terms, self.pool, VirtualClock(), swap_bytes)
        self.housing = self.seats.housing
        self.runner = HashRunner(num_pages, PAGE)
        self.text: dict[Seat, Text] = {}
        self.queues: dict[Seat, deque[Chunk]] = {}
        self.names: dict[tuple[str, Text], bytes] = {}  # (client, the tokens) → what the Peer called their last Page
        self.under_way: Housed | None = None
        self._wanted: set[Seat] = set()
        self._steps = self._sessions = 0

    def open(self, prompt: Text, client: str = "c", *, claims: tuple[bytes, ...] | None = None) -> Seat:
        """Claims what is known of the prompt. Raises Refused."""
        request = Open(
            MODEL.fingerprint, "c8", WHOLE, len(prompt) + MORE, len(prompt), sampling=SamplingParams(),
            prefix=self.known(prompt, client) if claims is None else claims,
        )  # fmt: skip
        self._sessions += 1
        session = self._sessions.to_bytes(16, "big")
        opened = self.seats.open(session, 0, "link", request, client)
        seat = self.seats.find(session, "link")
        assert opened.position % PAGE == 0 and opened.position < len(prompt)
        self.text[seat], self.queues[seat] = prompt[: opened.position], deque()
        return seat

    def known(self, prompt: Text, client: str) -> tuple[bytes, ...]:
        found: list[bytes] = []
        for end in range(PAGE, len(prompt) + 1, PAGE):
            name = self.names.get((client, prompt[:end]))
            if name is None:
                break
            found.append(name)
        return tuple(found)

    def feed(self, seat: Seat, token_ids: Text, drafts: int = 0, at: int | None = None) -> None:
        """Queue a Chunk that goes on behind the Seat's position, or ``at`` one of its drafts."""
        position = seat.position if at is None else at
        self._steps += 1
        guesses = token_ids[len(token_ids) - drafts :]
        chunk = Chunk(self._steps, position, len(token_ids), Want.HIDDEN, token_ids=token_ids, drafts=guesses)
        verdict = seat.admit(seat.epoch, chunk)
        assert isinstance(verdict, Accept), verdict
        if verdict.rolled:
            self._rolled_back(seat)
        self.text[seat] = self.text[seat][:position] + token_ids
        self.queues[seat].append(chunk)

    def roll_back(self, seat: Seat, position: int) -> None:
        """As a Path does."""
        seat.rollback(min(position, seat.done))
        self._rolled_back(seat)
        self.text[seat] = self.text[seat][: seat.done]

    def fork(self, seat: Seat, position: int) -> Seat:
        """Raises Refused."""
        self._sessions += 1
        session = self._sessions.to_bytes(16, "big")
        opened = self.seats.fork(seat, Fork(session, position, position, SamplingParams()))
        new = self.seats.find(session, "link")
        assert opened.position == position
        self.text[new], self.queues[new] = self.text[seat][:position], deque()
        return new

    def close(self, seat: Seat) -> None:
        self.seats.close(seat)
        self._wanted.discard(seat)
        del self.text[seat], self.queues[seat]

    def begin(self, most: int = 8) -> Housed:
        """A Batch of the Seats that have something queued goes to the compute thread."""
        assert self.under_way is None
        chosen = [seat for seat, queue in self.queues.items() if queue][:most]
        works = [Work(seat, self.queues[seat].popleft()) for seat in chosen]
        housed = self.seats.house(works, lambda seat: bool(self.queues[seat]))
        for work in housed.stay:
            self.queues[work.seat].appendleft(work.chunk)
        self.under_way, self._wanted = housed, {work.seat for work in housed.go}
        return housed

    def end(self) -> list[Work[Seat]]:
        """What is under way is computed, and right. Returns what came out of it."""
        housed, self.under_way = self.under_way, None
        assert housed is not None
        for job in housed.jobs:
            job(self.runner)
        answers, out = self.runner.run(housed.go), list[Work[Seat]]()
        for work, answer in zip(housed.go, answers, strict=True):
            seat, chunk = work.seat, work.chunk
            if seat not in self._wanted or not self.seats.holds(seat):
                continue
            assert isinstance(answer, Chunk) and answer.hidden is not None
            rows = rows_after(self.text[seat][: chunk.end])[chunk.position :]
            assert answer.hidden.data == b"".join(rows), f"seat {seat.number} read what is not its own"
            seat.finish(chunk, answer)
            self._note(seat, chunk)
            out.append(work)
        return out

    def compute(self, most: int = 200) -> None:
        """Everything that is queued."""
        while any(self.queues.values()):
            self.begin()
            self.end()
            most -= 1
            assert most, "this goes on for ever"

    def write(self, seat: Seat, token_ids: Text) -> None:
        """Feed and compute."""
        self.feed(seat, token_ids)
        self.compute()

    def balance(self) -> None:
        """The books agree with what the Seats hold."""
        holders = Counter(page for seat in self.seats for page in seat.pages)
        assert self.pool.used == len(holders), "pages are lost"
        assert all(self.pool.is_shared(page) == (count > 1) for page, count in holders.items())
        assert self.pool.owed == sum(seat.owed for seat in self.seats)
        assert self.pool.used + self.pool.free == self.pool.total
        for seat in self.seats:
            assert len(set(seat.pages)) == len(seat.pages)
            assert seat.stored is None or not seat.pages
            whole = -(-seat.request.max_tokens // PAGE)
            assert len(seat.pages) + seat.owed == whole, f"seat {seat.number} has {seat.pages}, is owed {seat.owed}"

    def _rolled_back(self, seat: Seat) -> None:
        self.queues[seat].clear()
        self._wanted.discard(seat)
        self.housing.rolled_back(seat)

    def _note(self, seat: Seat, chunk: Chunk) -> None:
        kept = self.housing.computed(seat, chunk)
        if kept is None:
            return
        for page, name in enumerate(kept.digests, kept.first + 1):
            text = self.text[seat][: page * PAGE]
            assert page * PAGE <= seat.provisional, "a draft was given a name"
            assert name == name_of(text), f"{name.hex()} stands for other tokens than {text}"
            self.names[seat.client, text] = name


def name_of(text: Text) -> bytes:
    """The digest of the last of these full Pages."""
    name = b""
    for begin in range(0, len(text), PAGE):
        name = blake3(name + struct.pack(f"<{PAGE}I", *text[begin : begin + PAGE])).digest(length=16)
    return name
