"""Journal: what one Session needs to rebuild a lost Seat. Tokens, and what crossed each boundary between Hops.

A boundary is named by the Block it leads to. Boundary 0 carries the token ids and is always complete; a boundary
further on carries hidden states, as opaque bytes, for a contiguous range of positions [first, end). With first = 0 a
Seat behind it can be rebuilt without troubling anyone upstream.

Hidden states are bounded by a Budget that all Sessions of a client share. A Session that finds it spent sheds: from
then on it keeps only what the next Hop has not taken yet, and a repair starts further upstream, at the latest from
the token ids.

Tokens are appended at their position only, so one that was acknowledged is never drawn again nor repeated.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from proto.messages import Hidden
from swarm.span import Span


class Budget:
    """Bytes that all Journals of a client share."""

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Book ``size`` bytes in any case; False says that the limit is passed and somebody should give back."""
        self.used += size
        return self.used <= self.limit

    def give(self, size: int) -> None:
        self.used -= size


class Boundary:
    """Hidden states of positions [first, end), as the pieces in which they came."""

    __slots__ = ("_pieces", "_starts", "end", "first", "size")

    def __init__(self):
        self.first = self.end = 0
        self.size = 0  # bytes
        self._starts: list[int] = []
        self._pieces: list[Hidden] = []

    def put(self, hidden: Hidden) -> None:
        self._starts.append(self.end)
        self._pieces.append(hidden)
        self.end += hidden.rows
        self.size += len(hidden.data)

    def take(self, start: int, end: int) -> Hidden:
        """Rows [start, end), which must be held."""
        assert self.first <= start < end <= self.end, f"rows {start}:{end} of {self.first}:{self.end}"
        at = bisect_right(self._starts, start) - 1
        parts: list[bytes] = []
        first = self._pieces[at]
        while start < end:
            piece, begins = self._pieces[at], self._starts[at]
            stop = min(end, begins + piece.rows)
            if (start, stop) == (begins, begins + piece.rows):
                parts.append(piece.data)
            else:
                row_bytes = len(piece.data) // piece.rows
                parts.append(piece.data[(start - begins) * row_bytes : (stop - begins) * row_bytes])
            start, at = stop, at + 1
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return Hidden(first.dtype, len(data) * first.rows // len(first.data), first.cols, data)

    def trim(self, position: int) -> None:
        """Forget whole pieces before ``position``."""
        keep = bisect_right(self._starts, position) - 1
        if keep > 0:
            self.size -= sum(len(piece.data) for piece in self._pieces[:keep])
            del self._starts[:keep], self._pieces[:keep]
            self.first = self._starts[0]


class Journal:
    """One Session's. ``close`` gives its bytes back."""

    def __init__(self, prompt: Sequence[int], budget: Budget):
        self.token_ids = list(prompt)
        self.shedding = False
        self._budget = budget
        self._boundaries: dict[int, Boundary] = {}

    def __len__(self) -> int:
        """Positions whose token is known."""
        return len(self.token_ids)

    def append(self, position: int, token_id: int) -> None:
        """The token drawn for ``position``, which must be the first unknown one."""
        assert position == len(self.token_ids), f"token for position {position}, {len(self.token_ids)} are known"
        self.token_ids.append(token_id)

    def extent(self, boundary: int) -> tuple[int, int]:
        """The positions [first, end) whose crossing of ``boundary`` is held; (0, 0) where nothing ever crossed."""
        if boundary == 0:
            return 0, len(self.token_ids)
        known = self._boundaries.get(boundary)
        return (known.first, known.end) if known is not None else (0, 0)

    def put(self, boundary: int, position: int, hidden: Hidden) -> None:
        """Keep what crossed ``boundary`` from ``position`` on, which must be where it was left off."""
        known = self._boundaries.setdefault(boundary, Boundary())
        assert position == known.end, f"rows from {position} at boundary {boundary}, it is held up to {known.end}"
        known.put(hidden)
        if not self._budget.take(len(hidden.data)):
            self.shedding = True

    def tokens(self, start: int, end: int) -> tuple[int, ...]:
        return tuple(self.token_ids[start:end])

    def hidden(self, boundary: int, start: int, end: int) -> Hidden:
        return self._boundaries[boundary].take(start, end)

    def shed(self, taken: Iterable[tuple[int, int]]) -> None:
        """Where the Budget is spent: forget what crossed each (boundary, position) before that position."""
        if self.shedding:
            for boundary, position in taken:
                known = self._boundaries.get(boundary)
                if known is not None:
                    before = known.size
                    known.trim(position)
                    self._budget.give(before - known.size)

    def keep(self, boundaries: Iterable[int]) -> None:
        """Forget every boundary but these: no Hop begins there any more."""
        for boundary in set(self._boundaries) - set(boundaries):
            self._budget.give(self._boundaries.pop(boundary).size)

    def drop_incomplete(self, inside: Span) -> None:
        """Forget the boundaries within ``inside`` whose beginning was shed: new Seats there begin at position 0."""
        self.keep(b for b, known in self._boundaries.items() if known.first == 0 or not inside.start < b < inside.end)

    def close(self) -> None:
        self.keep(())
