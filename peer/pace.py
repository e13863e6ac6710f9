"""Pace: how long Batches take, as far as was seen, and so how much prefill a Batch may take along. Pure numbers.

A Batch of ``r`` decode rows and ``k`` prefill tokens takes about ``decode_s(r) + k * prefill_s``. Both are running
means of what was observed. ``decode_s`` is kept for 1, 2-3, 4-7, … rows by itself, since rows beside each other cost
little, but not nothing. ``prefill_s`` follows quickly, and faster upwards: attention makes the later tokens of a prompt
dearer, and it is the others who would pay.

The gap is the time from the end of a Batch with decodes to the moment at which the next decode is ready. In a ring the
Sessions are at the other Hops then. A prefill Batch that fits into the gap delays nobody; one that does not would make
decodes wait for a whole Batch.
"""

from __future__ import annotations

EXTRA = 0.5  # of a decode Batch's time may be added by prefill: twice at the most, with room for what is misjudged
UNKNOWN_TOKENS = 8  # prefill beside decodes before anything is known
PLAIN_EVERY = 16  # so many Batches with decodes and one of them goes without prefill, to keep ``decode_s`` true
ALONE_TOKENS = 64  # a prefill Batch of so many tokens tells what one takes, without decodes beside it
_FOLLOW = 0.25
_FOLLOW_UP = 0.5
_LEAST_S = 1e-9


class Pace:
    def __init__(self) -> None:
        self.prefill_s: float | None = None  # a token
        self.gap_s: float | None = None
        self._decode_s: dict[int, float] = {}  # by the bit length of the number of rows
        self._limit = UNKNOWN_TOKENS  # an estimate from few tokens is rough: twice as many is the next step
        self._mixed = 0  # Batches since a plain one

    def observe(self, decode_rows: int, prefill_tokens: int, seconds: float) -> None:
        """A Batch of so many rows of decodes and tokens of prefill took so long."""
        if decode_rows and not prefill_tokens:
            size, self._mixed = decode_rows.bit_length(), 0
            self._decode_s[size] = _follow(self._decode_s.get(size), seconds, _FOLLOW)
            return
        base = self.decode_s(decode_rows) if decode_rows else 0.0
        self._limit = 2 * prefill_tokens
        self._mixed += decode_rows > 0
        if base is not None and (decode_rows or prefill_tokens >= ALONE_TOKENS or self.prefill_s is None):
            sample = max((seconds - base) / prefill_tokens, _LEAST_S)
            up = self.prefill_s is not None and sample > self.prefill_s
            self.prefill_s = _follow(self.prefill_s, sample, _FOLLOW_UP if up else _FOLLOW)

    def observe_gap(self, seconds: float) -> None:
        """Short gaps count at once, long ones by and by: it is better to wait in vain than to be in the way."""
        short = self.gap_s is None or seconds < self.gap_s
        self.gap_s = seconds if short else _follow(self.gap_s, seconds, _FOLLOW)

    def decode_s(self, rows: int) -> float | None:
        """What decodes alone take; from the nearest size where this one was not seen, the smaller if in doubt."""
        if not self._decode_s:
            return None
        wanted = rows.bit_length()
        return self._decode_s[min(self._decode_s, key=lambda size: (abs(size - wanted), size))]

    def beside(self, decode_rows: int) -> int:
        """How many prefill tokens may go with so many decode rows; at least 1 but for the Batches that go without."""
        base = self.decode_s(decode_rows)
        if self._mixed >= (PLAIN_EVERY if base is not None else 1):
            return 0
        return self._bounded(None if base is None else EXTRA * base)

    def between(self, elapsed_s: float) -> tuple[int, float]:
        """How many prefill tokens may go alone when decodes were last here ``elapsed_s`` ago; where it is none, also
        after how many seconds to look again.
        """
        base = self.decode_s(1)
        if base is None or self.gap_s is None or self.prefill_s is None:
            return self._bounded(None if base is None else EXTRA * base), 0.0
        spare = self.gap_s - elapsed_s - base
        if spare >= EXTRA * base:
            return self._bounded(spare), 0.0
        late = 2 * (self.gap_s + base) - elapsed_s
        return (0, late) if late > 1e-3 * base else (self._bounded(EXTRA * base), 0.0)

    def _bounded(self, seconds: float | None) -> int:
        if seconds is None or self.prefill_s is None:
            return self._limit
        return max(1, min(int(seconds / self.prefill_s), self._limit))


def _follow(mean: float | None, sample: float, share: float) -> float:
    return sample if mean is None else mean + share * (sample - mean)
