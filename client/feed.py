"""Feed: what the first Hop is given, and when. Token ids of the prompt in Chunks, a few under way at a time; then each
token as it is drawn, with drafts behind it where there is a drafter. In a ring the last Hop does the latter by itself.

Pure: returns Chunks of token ids, sends nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Protocol

from client.journal import Journal
from proto.messages import Chunk, Want
from proto.outflow import WINDOW


class Drafting(Protocol):
    """The part of ``swarm.draft.Drafter`` that is used, wherever its guesses come from."""

    def append(self, token_ids: Sequence[int]) -> None: ...

    def propose(self, most: int | None = None) -> tuple[int, ...]: ...

    def accepted(self, drafted: int, accepted: int) -> None: ...

    def observe(self, rows: int, seconds: float) -> None: ...


class Feed:
    """``wanted`` is asked for at the end of the Route with the last known token."""

    def __init__(self, journal: Journal, max_tokens: int, wanted: Want, drafter: Drafting | None = None):
        self.autonomous = False  # the last Hop feeds the first by itself, but for ``stop_ids``
        self.step = 0
        self._journal, self._max_tokens, self._wanted, self._drafter = journal, max_tokens, wanted, drafter
        self._cursor = 0
        self._limit = 1
        self._under_way: deque[int] = deque()
        self._drafts: tuple[int, ...] = ()  # of the last step …
        self._agreed = 0  # … of which so many were drawn
        self._waiting = False  # tokens of the last step are still to come
        self._sent_at = 0.0

    def turn(self, position: int, limit: int) -> None:
        """The first Hop goes on from ``position`` and takes Chunks of ``limit``."""
        self._cursor, self._limit = position, limit
        self._under_way.clear()
        self._drafts, self._waiting = (), False

    def chunks(self, now: float) -> list[Chunk]:
        """What is to be sent now. Computes, where a draft model guesses."""
        out: list[Chunk] = []
        while self._cursor < len(self._journal) and len(self._under_way) < WINDOW and not self._waiting:
            end = min(self._cursor + self._limit, len(self._journal))
            if self._wanted is Want.HIDDEN and end == len(self._journal) > self._cursor + 1:
                end -= 1  # hidden states come back for every position of a Chunk: the last one goes alone
            ids, want = self._journal.tokens(self._cursor, end), Want.NOTHING
            if end == len(self._journal):
                want, self._waiting, self._agreed = self._wanted, True, 0
                room = min(self._limit - len(ids), self._max_tokens - 1 - end)
                self._drafts = self._drafter.propose(room) if self._drafter is not None and room > 0 else ()
                ids += self._drafts
                self._sent_at = now
            drafts = self._drafts if self._waiting else ()
            chunk = Chunk(self.step, self._cursor, len(ids), want, token_ids=ids, drafts=drafts)
            self._cursor, self.step = end, self.step + 1
            if chunk.count > 1:
                self._under_way.append(chunk.end)
            out.append(chunk)
        return out

    @property
    def drafts(self) -> tuple[int, ...]:
        """Of the step that is under way."""
        return self._drafts

    def answered(self, position: int) -> None:
        """The first Hop has computed everything before ``position``."""
        while self._under_way and self._under_way[0] <= position:
            self._under_way.popleft()

    def drawn(self, token_id: int, stop_ids: Collection[int], now: float) -> None:
        """The Journal's last token came."""
        if self._drafter is not None:
            self._drafter.append([token_id])
        if self.autonomous and token_id not in stop_ids:
            self._cursor = len(self._journal)
            self._waiting = False
        elif self._agreed < len(self._drafts) and self._drafts[self._agreed] == token_id:
            self._agreed += 1
        else:
            if self._drafter is not None:
                self._drafter.observe(1 + len(self._drafts), now - self._sent_at)
                if self._drafts:
                    self._drafter.accepted(len(self._drafts), self._agreed)
            self._drafts, self._waiting = (), False
            self._cursor = len(self._journal) - 1
