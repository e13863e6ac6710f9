"""Swap: whose Pages leave for host memory when a Batch wants more than are free. Pure decisions; copies nothing.

The Seats of the Batch are served from the oldest to the youngest. For each that lacks Pages there leave, one by one
until it has enough:

1. Seats with nothing to do, the least recently active first;
2. Seats that wait outside the Batch and are younger than the needy one, the youngest first;
3. Seats of the Batch itself that are younger and thus not served yet, the youngest first.

A Seat that was served stays. One that cannot have enough takes nothing and waits. Nobody with work to do ever leaves
for a younger one, so the oldest Seat with work always goes on, and after it the next: no two go on swapping each other.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Standing(Generic[S]):
    """A Seat as far as it matters here. One that is swapped out holds nothing and lacks all that it had."""

    seat: S
    opened: int  # the smaller the older; no two are equal
    last_active_s: float
    held: int = 0  # Pages that would come free if it left: those it does not share
    lacks: int = 0  # Pages for its Chunk in this Batch
    in_batch: bool = False
    waiting: bool = False  # has a Chunk ready that is not in this Batch


@dataclass(frozen=True, slots=True)
class Plan(Generic[S]):
    """First all of ``leave`` are swapped out; then ``go`` have their Pages; ``stay`` must be put back."""

    leave: tuple[S, ...]
    go: tuple[S, ...]
    stay: tuple[S, ...]


def plan(standings: Sequence[Standing[S]], free: int) -> Plan[S]:
    """Who of the Batch goes on, and who leaves for it, when ``free`` Pages are free."""
    leave: list[S] = []
    go: list[S] = []
    stay: list[S] = []
    candidates = sorted(standings, key=_rank)
    for needy in sorted((s for s in standings if s.in_batch), key=lambda s: s.opened):
        if needy not in candidates:
            stay.append(needy.seat)  # it left for an older one
            continue
        chosen, reach = list[Standing[S]](), free
        for other in candidates:
            if reach >= needy.lacks:
                break
            if other.held and _may_leave(other, needy):
                chosen.append(other)
                reach += other.held
        if reach < needy.lacks:
            stay.append(needy.seat)
            continue
        free = reach - needy.lacks
        leave += [other.seat for other in chosen]
        go.append(needy.seat)
        candidates = [s for s in candidates if s not in chosen]
    return Plan(tuple(leave), tuple(go), tuple(stay))


def _rank(standing: Standing[S]) -> tuple[int, float, int]:
    if standing.in_batch:
        return 2, 0.0, -standing.opened
    if standing.waiting:
        return 1, 0.0, -standing.opened
    return 0, standing.last_active_s, standing.opened


def _may_leave(other: Standing[S], needy: Standing[S]) -> bool:
    return not (other.in_batch or other.waiting) or other.opened > needy.opened
