"""The scheduler: Seats with ready Chunks → the next Batch. Pure bookkeeping; knows no I/O, no clock, no tensors.

Decodes (Chunks of one position) go first: every step of every Session that is ready, since rows beside each other cost
little more than one. Then prefill, in the order of arrival, up to a budget of tokens, so that a long prompt delays the
others by one bounded Batch at a time. The budget is prefill's own, and the first prefill Chunk is always taken, even
above the budget (then it is the only one): neither kind can starve the other. A Seat has at most one Chunk in a Batch,
because the next one needs the KV of the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from proto.messages import Chunk

S = TypeVar("S", bound=Hashable)  # whatever stands for a Seat


@dataclass(frozen=True, slots=True)
class Work(Generic[S]):
    seat: S
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Batch(Generic[S]):
    """Works of different Seats; decodes first."""

    works: tuple[Work[S], ...]

    @property
    def num_tokens(self) -> int:
        return sum(work.chunk.count for work in self.works)


class Scheduler(Generic[S]):
    """Ready Chunks, one queue a Seat; Seats in the order in which their foremost Chunk became ready."""

    def __init__(self, *, prefill_tokens: int, max_decodes: int):
        assert prefill_tokens > 0 and max_decodes > 0, (prefill_tokens, max_decodes)
        self.prefill_tokens = prefill_tokens
        self.max_decodes = max_decodes
        self.queue_tokens = 0
        self._queues: dict[S, deque[Chunk]] = {}

    def __len__(self) -> int:
        """How many Seats have something ready."""
        return len(self._queues)

    def add(self, seat: S, chunk: Chunk) -> None:
        self._queues.setdefault(seat, deque()).append(chunk)
        self.queue_tokens += chunk.count

    def discard(self, seat: S) -> None:
        """Forget what a Seat that is closed had ready."""
        self.queue_tokens -= sum(chunk.count for chunk in self._queues.pop(seat, ()))

    def next_batch(self) -> Batch[S] | None:
        """Take out the next Batch; None when nothing is ready."""
        decodes: list[S] = []
        prefills: list[S] = []
        budget, full = self.prefill_tokens, False
        for seat, chunks in self._queues.items():
            count = chunks[0].count
            if count == 1:
                if len(decodes) < self.max_decodes:
                    decodes.append(seat)
            elif not full and (count <= budget or not prefills):
                prefills.append(seat)
                budget -= count
            else:
                full = True  # nobody overtakes the prefill that did not fit
        works = tuple(Work(seat, self._take(seat)) for seat in (*decodes, *prefills))
        return Batch(works) if works else None

    def _take(self, seat: S) -> Chunk:
        chunks = self._queues.pop(seat)
        chunk = chunks.popleft()
        self.queue_tokens -= chunk.count
        if chunks:
            self._queues[seat] = chunks  # behind the others again
        return chunk
