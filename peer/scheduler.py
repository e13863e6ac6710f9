"""The scheduler: Seats with ready Chunks → the next Batch. Pure bookkeeping; knows no I/O and no tensors, and of time
only what it is told.

**Decodes first.** A decode is a Chunk of one position, and of drafts after it. Rows beside each other cost little more
than one, so a Batch takes what is ready. The first Hop of a Route sees to it that Seats go round together: all of those
that decode, or in groups one behind the other so that no Hop idles, whichever was seen to be faster (``grouping``). A
group has its share by the Hops of their Routes, the sum of 1/hops; one that has merged is split again. Where fewer are
ready than should go together, the Batch may wait a moment for more (``patience``). A Seat counts as decoding until
``2 * hops + 2`` Batches have gone without it, and twice the time between its last two.

**Then prefill**, split where it does not fit. Nobody decodes: up to ``prefill_tokens``. Somebody does, be it at
another Hop right now: so much that the Batch takes at most 1.5 times as long as without, by what Batches took so far
(``pace``). While the decodes are away prefill goes alone only where it is likely done when they come back; else it
waits for them, but no longer than ``look_again_s``. So prefill has about a third of the time, and neither kind starves.

**Fair between clients** (``turns``): deficit round robin, for prefill in tokens, for decodes in rows where the cap
binds. Within a client Seats take turns, a Chunk each.

A Seat has at most one Chunk in a Batch, because the next one needs the KV of the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Generic, TypeVar

from peer.grouping import Grouping
from peer.pace import Pace
from peer.patience import Patience
from peer.turns import Turns
from proto.messages import Chunk, Want

S = TypeVar("S", bound=Hashable)  # whatever stands for a Seat

PREFILL_QUANTUM = 32  # tokens a turn
CALM = 4  # Batches without prefill; then rounds of decodes are compared again


@dataclass(frozen=True, slots=True)
class Work(Generic[S]):
    seat: S
    chunk: Chunk
    since: float = 0.0  # when the Chunk was added, or the part before it was taken
    pages: tuple[int, ...] = ()  # of the Seat, once it is housed


@dataclass(frozen=True, slots=True)
class Batch(Generic[S]):
    """Works of different Seats; decodes first."""

    works: tuple[Work[S], ...]

    @property
    def num_tokens(self) -> int:
        return sum(work.chunk.count for work in self.works)

    @property
    def num_decode_rows(self) -> int:
        return sum(work.chunk.count for work in self.works if is_decode(work.chunk))


@dataclass(slots=True)
class _Queue:
    """What a Seat has ready, in order, each with the time since when."""

    client: str
    num_hops: int
    leads: bool
    chunks: deque[tuple[Chunk, float]]

    @property
    def front(self) -> Chunk:
        return self.chunks[0][0]


@dataclass(frozen=True, slots=True)
class _Decoding:
    """When a Seat decoded last: in which Batch and at what time, and how long after the time before."""

    num_hops: int
    leads: bool
    number: int
    at: float
    interval: float

    def lasts(self, number: int, now: float) -> bool:
        """Whether it probably goes on."""
        return number - self.number <= 2 * self.num_hops + 2 or now - self.at < 2 * self.interval


def is_decode(chunk: Chunk) -> bool:
    return chunk.count - len(chunk.drafts) == 1 and chunk.want is not Want.NOTHING


class Scheduler(Generic[S]):
    """Ready Chunks, one queue a Seat; Seats in the order in which their foremost Chunk became ready."""

    def __init__(self, *, prefill_tokens: int = 256, max_decodes: int, grouping: Grouping | None = None):
        assert prefill_tokens > 0 and max_decodes > 0, (prefill_tokens, max_decodes)
        self.prefill_tokens = prefill_tokens
        self.max_decodes = max_decodes
        self.queue_tokens = 0
        self.look_again_s: float | None = None  # set when Chunks are held back: ask again then, or when one is added
        self.pace = Pace()
        self._grouping = grouping or Grouping()
        self._patience = Patience()
        self._queues: dict[S, _Queue] = {}
        self._turns = Turns(PREFILL_QUANTUM), Turns(1)  # prefill, decode
        self._decoding: dict[S, _Decoding] = {}
        self._leading = 0  # Seats that decode and whose Routes begin here
        self._grouped: bool | None = None  # whether they go in groups; None where there is no choice
        self._calm = 0  # Batches since one had prefill
        self._number = 0  # of Batches
        self._begun = 0.0  # when the last one was taken
        self._decode_end: float | None = None  # since when no decode is ready

    def __len__(self) -> int:
        """How many Seats have something ready."""
        return len(self._queues)

    def add(
        self, seat: S, chunk: Chunk, client: str = "", num_hops: int = 1, now: float = 0.0, *, leads: bool = True
    ) -> None:
        """``client`` is whose turn it is to use up; ``num_hops`` of the Seat's Route, and whether this Hop is the first
        of it; ``now`` by the engine's clock.
        """
        queue = self._queues.get(seat)
        if queue is None:
            queue = self._queues[seat] = _Queue(client, max(1, num_hops), leads, deque())
        queue.chunks.append((chunk, now))
        self.queue_tokens += chunk.count
        if self._decode_end is not None and is_decode(chunk):
            self.pace.observe_gap(max(0.0, now - self._decode_end))
            self._decode_end = None

    def waits(self, seat: S) -> bool:
        """Whether the Seat has something ready."""
        return seat in self._queues

    def put_back(self, work: Work[S], client: str = "", num_hops: int = 1, *, leads: bool = True) -> None:
        """A Work of the last Batch cannot be computed yet; it is its Seat's next one again."""
        queue = self._queues.setdefault(work.seat, _Queue(client, max(1, num_hops), leads, deque()))
        queue.chunks.appendleft((work.chunk, work.since))
        self.queue_tokens += work.chunk.count

    def discard(self, seat: S) -> None:
        """Forget a Seat that is closed, and what it had ready."""
        queue = self._queues.pop(seat, None)
        if queue is not None:
            self.queue_tokens -= sum(chunk.count for chunk, _ in queue.chunks)
        self._decoding.pop(seat, None)

    def observe(self, batch: Batch[S], seconds: float) -> None:
        """The Batch taken last is computed and took so long."""
        rows = batch.num_decode_rows
        self.pace.observe(rows, batch.num_tokens - rows, seconds)
        if rows:
            if any(is_decode(queue.front) for queue in self._queues.values()):
                self.pace.observe_gap(0.0)
                self._decode_end = None
            else:
                self._decode_end = self._begun + seconds

    def next_batch(self, now: float = 0.0) -> Batch[S] | None:
        """Take out the next Batch; None when nothing is ready, or should wait (``look_again_s``)."""
        self.look_again_s = None
        decodes, prefills = self._sorted()
        cap, wait_s = self._cap(decodes, bool(prefills), now)
        if wait_s:
            self.look_again_s = wait_s
            return None
        chosen = self._choose(decodes, cap)
        shares: dict[S, int] = {}
        if prefills:
            budget = self._budget(chosen, now)
            shares = self._share(prefills, budget)
        if not chosen and not shares:
            return None
        self._number += 1
        self._begun = now
        self._note(chosen, now, calm=not shares)
        works = [self._take(seat, None, now) for seat in chosen]
        works += [self._take(seat, count, now) for seat, count in shares.items()]
        return Batch(tuple(works))

    def _sorted(self) -> tuple[list[S], list[S]]:
        """Seats whose foremost Chunk is a decode, and the others."""
        decodes: list[S] = []
        prefills: list[S] = []
        for seat, queue in self._queues.items():
            (decodes if is_decode(queue.front) else prefills).append(seat)
        return decodes, prefills

    def _cap(self, ready: Sequence[S], prefill_waits: bool, now: float) -> tuple[int, float]:
        """How many decodes of Routes that begin here may go now, and how long to wait for more of them first."""
        self._decoding = {s: d for s, d in self._decoding.items() if d.lasts(self._number, now)}
        leading = {seat: decoding.num_hops for seat, decoding in self._decoding.items() if decoding.leads}
        leading |= {seat: self._queues[seat].num_hops for seat in ready if self._queues[seat].leads}
        share = sum(1 / hops for hops in leading.values())
        self._grouped = None
        if len(leading) > max(1, ceil(share - 1e-6)):
            self._grouped = self._grouping.grouped(len(leading), prefill_waits=prefill_waits)
            if not self._grouped:
                share = float(len(leading))
        self._leading = len(leading)
        cap = min(self.max_decodes, ceil(share - 1e-6))
        here = sum(self._queues[seat].leads for seat in ready)
        if not here or here < len(ready) or here > cap:
            return cap, 0.0
        return cap, self._patience.wait_s(here, min(share, cap), self.pace.decode_s(cap), now)

    def _choose(self, ready: Sequence[S], cap: int) -> Sequence[S]:
        """The decodes of this Batch, at most ``cap`` of them of Routes that begin here."""
        if len(ready) <= min(cap, self.max_decodes):
            return ready
        waiting = self._by_client(ready)
        turns, chosen = self._turns[1], list[S]()
        for client in waiting:
            turns.join(client)
        while waiting and len(chosen) < self.max_decodes:
            client = turns.first(waiting)
            seat = waiting[client].popleft()
            queue = self._queues[seat]
            if not queue.leads or cap > 0:
                cap -= queue.leads
                chosen.append(seat)
                turns.charge(client, queue.front.count)
            if not waiting[client]:
                del waiting[client]
        return chosen

    def _note(self, chosen: Sequence[S], now: float, *, calm: bool) -> None:
        """These Seats decode now, each again after a round; one without prefill in it tells which way is faster."""
        rounds: list[float] = []
        for seat in chosen:
            known, queue = self._decoding.get(seat), self._queues[seat]
            interval = 0.0 if known is None else now - known.at
            if known is not None and queue.leads:
                rounds.append(interval)
            self._decoding[seat] = _Decoding(queue.num_hops, queue.leads, self._number, now, interval)
        self._calm = self._calm + 1 if calm else 0
        if self._grouped is not None and rounds and self._calm > CALM:
            self._grouping.observe(self._leading, self._grouped, len(rounds), sum(rounds) / len(rounds))

    def _budget(self, decodes: Sequence[S], now: float) -> int:
        """How many tokens of prefill go along; sets ``look_again_s`` where none may go, and nothing else goes."""
        if decodes:
            budget = self.pace.beside(sum(self._queues[seat].front.count for seat in decodes))
        elif self._decoding:
            if self._decode_end is None:  # the one that was ready was discarded
                self._decode_end = now
            budget, wait_s = self.pace.between(now - self._decode_end)
            if not budget:
                self.look_again_s = wait_s
        else:
            budget = self.prefill_tokens
        return min(budget, self.prefill_tokens)

    def _share(self, seats: Sequence[S], budget: int) -> dict[S, int]:
        """How many tokens each of these Seats may have, those that get some."""
        waiting = self._by_client(seats)
        turns, shares = self._turns[0], dict[S, int]()
        for client in waiting:
            turns.join(client)
        while budget > 0 and waiting:
            client = turns.first(waiting)
            seat = waiting[client][0]
            left = self._queues[seat].front.count - shares.get(seat, 0)
            count = min(left, budget, PREFILL_QUANTUM)
            turns.charge(client, count)
            shares[seat] = shares.get(seat, 0) + count
            budget -= count
            if count == left:
                waiting[client].popleft()
                if not waiting[client]:
                    del waiting[client]
        return shares

    def _by_client(self, seats: Sequence[S]) -> dict[str, deque[S]]:
        clients: dict[str, deque[S]] = {}
        for seat in seats:
            clients.setdefault(self._queues[seat].client, deque()).append(seat)
        return clients

    def _take(self, seat: S, count: int | None, now: float) -> Work[S]:
        """The Seat's foremost Chunk, or the first ``count`` positions of it. Drafts stay with what they follow."""
        queue = self._queues[seat]
        chunk, since = queue.chunks.popleft()
        whole = chunk.count - len(chunk.drafts) - 1  # positions that may go before the rest
        if count is not None and count < chunk.count and whole > 0:
            chunk, rest = chunk.split(min(count, whole))
            queue.chunks.appendleft((rest, now))
        else:
            del self._queues[seat]
            if queue.chunks:
                self._queues[seat] = queue  # behind the others again
        self.queue_tokens -= chunk.count
        return Work(seat, chunk, since)
