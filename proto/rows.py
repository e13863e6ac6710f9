"""Rows: hidden states of consecutive positions [first, end), as the pieces in which they came. The store of Journals,
the client's and every Hop's. The oldest pieces may lie in a file.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from dataclasses import dataclass
from typing import IO

from proto.messages import Hidden, WireDType


@dataclass(frozen=True, slots=True)
class _Spilled:
    """A piece in the file, from byte ``at`` on."""

    dtype: WireDType
    rows: int
    cols: int
    at: int

    @property
    def nbytes(self) -> int:
        return self.rows * self.cols * self.dtype.itemsize


class Rows:
    """``size`` is what they take of memory, ``spilled`` of disk, in bytes."""

    __slots__ = ("_file", "_in_file", "_pieces", "_starts", "end", "first", "size", "spilled")

    def __init__(self, first: int = 0):
        self.first = self.end = first
        self.size = self.spilled = 0
        self._starts: list[int] = []
        self._pieces: list[Hidden | _Spilled] = []
        self._in_file = 0  # how many of the first pieces are spilled
        self._file: IO[bytes] | None = None

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._pieces)

    def put(self, hidden: Hidden) -> None:
        """The next ones."""
        self._starts.append(self.end)
        self._pieces.append(hidden)
        self.end += hidden.rows
        self.size += len(hidden.data)

    def take(self, start: int, end: int) -> Hidden:
        """Rows [start, end), which must be held."""
        assert self.first <= start < end <= self.end, f"rows {start}:{end} of {self.first}:{self.end}"
        at = bisect_right(self._starts, start) - 1
        first, parts, rows = self._pieces[at], list[bytes](), end - start
        while start < end:
            piece, begins = self._load(self._pieces[at]), self._starts[at]
            stop = min(end, begins + piece.rows)
            whole = (start, stop) == (begins, begins + piece.rows)
            parts.append(piece.data if whole else piece.slice(start - begins, stop - begins).data)
            start, at = stop, at + 1
        return Hidden(first.dtype, rows, first.cols, parts[0] if len(parts) == 1 else b"".join(parts))

    def trim(self, position: int) -> None:
        """Forget whole pieces before ``position``."""
        keep = bisect_right(self._starts, position) - 1
        if keep > 0:
            for piece in self._pieces[:keep]:
                self._uncount(piece)
            self._in_file = max(0, self._in_file - keep)
            del self._starts[:keep], self._pieces[:keep]
            self.first = self._starts[0]
            self._empty_file()

    def cut(self, position: int) -> None:
        """Forget what lies from ``position`` on."""
        while self._pieces and self._starts[-1] >= position:
            self._starts.pop()
            self._uncount(self._pieces.pop())
        self._in_file = min(self._in_file, len(self._pieces))
        if self._pieces and self._starts[-1] + self._pieces[-1].rows > position:
            piece = self._pieces.pop()
            self._uncount(piece)
            kept = self._load(piece).slice(0, position - self._starts[-1])
            self._in_file = min(self._in_file, len(self._pieces))
            self._pieces.append(kept)
            self.size += len(kept.data)
        self.end = min(self.end, position)
        self.first = min(self.first, self.end)
        self._empty_file()

    def spill(self) -> None:
        """Move all pieces in memory but the last into the file, which vanishes with this object. Raises OSError; what
        could not be moved stays.
        """
        if self._file is None:  # unbuffered: what a buffer could not write, it would keep and fail with again
            self._file = tempfile.TemporaryFile(prefix="shoal-journal-", buffering=0)  # noqa: SIM115 - its last holder's
        self._file.seek(0, 2)
        for index in range(self._in_file, len(self._pieces) - 1):
            piece = self._pieces[index]
            assert isinstance(piece, Hidden), "the pieces in the file come first"
            at = self._file.tell()
            left = memoryview(piece.data)
            while left:
                left = left[self._file.write(left) :]
            self._pieces[index] = _Spilled(piece.dtype, piece.rows, piece.cols, at)
            self._in_file = index + 1
            self.size -= len(piece.data)
            self.spilled += len(piece.data)

    def _empty_file(self) -> None:
        """Give the disk back once nothing in the file is of use."""
        if self._file is not None and not self._in_file:
            self._file.truncate(0)

    def _load(self, piece: Hidden | _Spilled) -> Hidden:
        if isinstance(piece, Hidden):
            return piece
        assert self._file is not None
        self._file.seek(piece.at)
        return Hidden(piece.dtype, piece.rows, piece.cols, self._file.read(piece.nbytes))

    def _uncount(self, piece: Hidden | _Spilled) -> None:
        if isinstance(piece, Hidden):
            self.size -= len(piece.data)
        else:
            self.spilled -= piece.nbytes
