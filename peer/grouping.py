"""Grouping: whether the decodes of a ring go round it all in one Batch, or in groups so that its Hops work at a time.

Round a ring of H Hops it takes H Batches either way, so whichever has the shorter Batches wins. Where reading the
weights is all that a Batch costs, a group is no faster than all at once; where Hops share a machine and read at the
same time, it is even slower. Where arithmetic counts, groups win, by up to H times. What counts in the end is the time
between a Session's decodes at its first Hop, which is one round of the ring. So both ways are tried, that time is
compared, and the one that lost is tried again after a while. Pure numbers; 8 Sessions are judged apart from 10, and 16
from 20, for a round of more takes longer.
"""

from __future__ import annotations

from dataclasses import dataclass

SETTLE = 3  # rounds after a change before anything counts
TRY = 6  # rounds before a way is judged
AGAIN = 1024  # rounds after which the one that lost is tried again
BETTER = 1.04  # times as long as the other before a change
NO_WORSE = 1.1  # where prefill waits, groups are taken if they take up to so many times as long: it goes beside each
_FOLLOW = 0.25


@dataclass(slots=True)
class _Way:
    """How long a round took one of the two ways."""

    round_s: float = 0.0
    rounds: float = 0.0  # that counted
    at: float = 0.0  # in rounds, when that was last

    def observe(self, round_s: float, rounds: float, at: float) -> None:
        follow = 1.0 if self.rounds == 0 else min(1.0, _FOLLOW * rounds)
        self.round_s += follow * (round_s - self.round_s)
        self.rounds += rounds
        self.at = at


class Grouping:
    def __init__(self) -> None:
        self._ways: dict[int, tuple[_Way, _Way]] = {}  # in one, in groups
        self._said: dict[int, bool] = {}
        self._first: dict[int, bool] = {}  # which way was tried first
        self._current: tuple[int, bool] | None = None
        self._since = 0.0  # rounds, since the way they go was changed
        self._rounds = 0.0

    def observe(self, sessions: int, grouped: bool, rows: int, round_s: float) -> None:
        """``rows`` of so many ``sessions`` were taken, ``round_s`` after the time before; no prefill was in the way."""
        size, rounds = _size(sessions), rows / sessions
        if self._current != (size, grouped):
            self._current, self._since = (size, grouped), 0.0
        self._since += rounds
        self._rounds += rounds
        if self._since > SETTLE:
            self._of(size)[grouped].observe(round_s, rounds, self._rounds)

    def grouped(self, sessions: int, *, prefill_waits: bool = False) -> bool:
        """Whether so many Sessions, two or more, go in groups now."""
        size = _size(sessions)
        if size not in self._said:  # what was found for a number near by comes first
            near = min(self._said, key=lambda known: abs(known - size), default=None)
            self._first[size] = self._said[size] = near is not None and self._said[near]
        said = self._said[size] = self._decide(size, prefill_waits)
        return said

    def _decide(self, size: int, prefill_waits: bool) -> bool:
        one, groups = ways = self._of(size)
        before, first = self._said[size], self._first[size]
        if min(one.rounds, groups.rounds) < TRY:
            return first if ways[first].rounds < TRY else not first
        if prefill_waits:
            return groups.round_s <= NO_WORSE * one.round_s
        loser = one if before else groups
        if self._rounds - loser.at > AGAIN:
            loser.rounds = 0.0
            self._first[size] = before
            return not before
        return one.round_s > groups.round_s * (1 if before else BETTER)

    def _of(self, size: int) -> tuple[_Way, _Way]:
        return self._ways.setdefault(size, (_Way(), _Way()))


def _size(sessions: int) -> int:
    """Numbers of Sessions that are judged together: four steps from each power of two to the next."""
    return sessions if sessions < 8 else 4 * (sessions.bit_length() - 3) + (sessions >> (sessions.bit_length() - 3))
