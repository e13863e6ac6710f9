"""Outflow: what one boundary of a Route was given to carry, and how far the Seat behind it has it. For the Hop before
the boundary, or for the client where that carries by itself.

    give(chunk) ──▶ rows (the Journal)          kept for a Seat that has to begin again
                └─▶ queue ──▶ take() ──▶ sent   a few Chunks ahead of their Done, no more

Nothing leaves before ``turn`` has said where it goes. ``halt`` stops everything; the next ``turn`` names the position
that the Seat behind is at, and what it lacks comes from the rows: so a Seat that was rolled back, or one that is new,
gets the same bytes again. Returns what is to be sent and sends nothing; rows in a file are read from it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from proto.messages import Chunk, Want
from proto.rows import Rows

WINDOW = 4  # Chunks of several positions that may be under way at a time


class Outflow:
    """``keeps`` says whether rows are kept once they may go. A Hop whose client carries does not need to, nor has it to
    hold back what the client has asked for.
    """

    __slots__ = ("_again", "_limit", "_queue", "_step", "_under_way", "end", "keeps", "moving", "rows", "skip")

    def __init__(self, *, keeps: bool = True):
        self.rows = Rows()
        self.end = 0  # where what is given next begins
        self.keeps = keeps
        self.moving = False
        self.skip = 0  # what lies before is behind the boundary already
        self._queue: deque[Chunk] = deque()
        self._again: tuple[int, int] = (0, 0)  # rows that are sent once more, before the queue
        self._step = 0
        self._limit = 1  # positions of a Chunk that the Seat behind takes
        self._under_way: deque[int] = deque()  # where Chunks end that are not answered

    @property
    def idle(self) -> bool:
        """Nothing is left to send."""
        return not self._queue and self._again[0] >= self._again[1]

    def kept_from(self, position: int) -> int:
        """The first position of the rows that lead up to ``position`` without a gap; ``position`` for none."""
        return self.rows.first if self.rows and self.rows.end == position else position

    def give(self, chunk: Chunk) -> None:
        """What crosses next: hidden states, of positions that begin where the rows end."""
        assert chunk.hidden is not None and chunk.position == self.end, f"rows from {chunk.position}, not {self.end}"
        self.end = chunk.end
        if self.keeps or not self.moving:
            self.rows.put(chunk.hidden)
            if chunk.count > 1 or not self.moving:
                chunk = replace(chunk, hidden=None)  # the rows have it, perhaps in a file
        if chunk.end > self.skip:
            self._queue.append(_rest(chunk, self.skip))

    def cut(self, position: int) -> None:
        """What was given from ``position`` on does not count."""
        self.end, self.skip = min(self.end, position), min(self.skip, position)
        self.rows.cut(position)
        while self._queue and self._queue[-1].end > position:
            last = self._queue.pop()
            if last.position < position:
                self._queue.append(last.head(position - last.position))
        while self._under_way and self._under_way[-1] > position:
            self._under_way.pop()  # it may be that they are rolled back over there before they are computed
        again, until = self._again
        self._again = (again, min(until, position))

    def shed(self) -> None:
        """Forget the rows that nothing waits for any more, but for the last piece."""
        again, until = self._again
        waiting = again if again < until else self._queue[0].position if self._queue else self.rows.end - 1
        self.rows.trim(min(waiting, self.rows.end - 1))

    def halt(self) -> None:
        """Forget what waits; the rows stay."""
        self.moving = False
        self._queue.clear()
        self._under_way.clear()
        self._again = (0, 0)

    def turn(self, position: int, skip: int, step: int, limit: int, *, keeps: bool) -> None:
        """What is given next begins at ``position``. The Seat behind has everything before ``skip`` and takes Chunks of
        ``limit``.
        """
        self.cut(position)
        if self.rows.end != position or not self.rows:
            self.rows = Rows(position)
        self.end = position
        self.skip, self._step, self._limit = skip, step, limit
        self._under_way.clear()
        waiting = self._queue[0].position if self._queue else self.rows.end
        self._again = (max(skip, self.rows.first), waiting) if self.rows else (0, 0)
        self._queue = deque(_rest(chunk, skip) for chunk in self._queue if chunk.end > skip)
        self.moving, self.keeps = True, keeps

    def take(self) -> list[Chunk]:
        """What is to be sent now. What is not kept is forgotten with it."""
        out: list[Chunk] = []
        while self.moving and not self.idle:
            chunk = self._foremost()
            if self.keeps and chunk.count > 1 and len(self._under_way) >= WINDOW:
                break
            if self._queue and chunk is self._queue[0]:
                self._queue.popleft()
            else:
                self._again = (chunk.end, self._again[1])
            if chunk.count > 1:
                self._under_way.append(chunk.end)
            out.append(chunk if chunk.hidden else replace(chunk, hidden=self.rows.take(chunk.position, chunk.end)))
        if not self.keeps and self.moving and self.idle:
            self.rows = Rows(self.end)
        return out

    def _foremost(self) -> Chunk:
        """The Chunk that goes first: of the rows to be sent again, or of the queue."""
        again, until = self._again
        if again < until:
            end = min(until, again + self._limit)
            return Chunk(self._step, again, end - again, Want.NOTHING)
        chunk = self._queue[0]
        whole = min(self._limit, chunk.count - len(chunk.drafts) - 1)
        if whole > 0 and chunk.count > self._limit:
            self._queue.popleft()
            self._queue.extendleft(reversed(chunk.split(whole)))
        return self._queue[0]  # too many drafts for the Seat behind: that will say so

    def answered(self, position: int) -> None:
        """The Seat behind has computed everything before ``position``."""
        while self._under_way and self._under_way[0] <= position:
            self._under_way.popleft()


def _rest(chunk: Chunk, position: int) -> Chunk:
    """What of ``chunk`` lies from ``position`` on. All of it where that is within its drafts, which only somebody who
    makes no sense asks for: the Seat behind will say so.
    """
    count = position - chunk.position
    return chunk.split(count)[1] if 0 < count < chunk.count - len(chunk.drafts) else chunk
