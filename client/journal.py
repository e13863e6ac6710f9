"""Journal: what one Session needs to rebuild a lost Seat, as far as the client has it. The tokens, and what crossed the
boundaries that the client carries itself.

A boundary is named by the Block it leads to. Tokens are always complete; hidden states are bounded by a Budget that
all Sessions of a client share. A Session that finds it spent forgets: from then on a repair starts further upstream, at
the latest from the token ids.

Tokens are appended at their position only, so one that was acknowledged is never drawn again nor repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proto.messages import Chunk
from proto.outflow import Outflow


class Budget:
    """Bytes that all Journals of a client share."""

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0

    @property
    def spent(self) -> bool:
        return self.used > self.limit


class Journal:
    """One Session's. ``close`` gives its bytes back."""

    def __init__(self, prompt: Sequence[int], budget: Budget):
        self.token_ids = list(prompt)
        self._budget = budget
        self._used = 0
        self._flows: dict[int, Outflow] = {}
        self._certain: dict[int, int] = {}  # by boundary: where the drafts of the last Chunk begin

    def __len__(self) -> int:
        """Positions whose token is known."""
        return len(self.token_ids)

    def append(self, position: int, token_id: int) -> None:
        """The token drawn for ``position``, which must be the first unknown one."""
        assert position == len(self.token_ids), f"token for position {position}, {len(self.token_ids)} are known"
        self.token_ids.append(token_id)

    def tokens(self, start: int, end: int) -> tuple[int, ...]:
        return tuple(self.token_ids[start:end])

    def flow(self, boundary: int) -> Outflow:
        """What the client carries across ``boundary``."""
        return self._flows.setdefault(boundary, Outflow())

    def held(self, boundary: int) -> tuple[int, int]:
        """The positions [first, end) that are kept of what crossed ``boundary``; (0, 0) for none."""
        flow = self._flows.get(boundary)
        return (flow.rows.first, flow.rows.end) if flow is not None and flow.rows else (0, 0)

    def resume(self, boundary: int, position: int) -> int:
        """Where what crosses ``boundary`` next has to begin: at ``position``, if there only drafts have crossed, which
        are forgotten then; else at the end.
        """
        flow = self.flow(boundary)
        if self._certain.get(boundary, flow.end) <= position < flow.end:
            flow.cut(position)
        return flow.end

    def put(self, boundary: int, chunk: Chunk) -> list[Chunk]:
        """Take what crossed ``boundary``; returns what is to be sent on now."""
        flow = self.flow(boundary)
        flow.give(chunk)
        self._certain[boundary] = chunk.end - len(chunk.drafts)
        out = flow.take()
        self._count()
        if self._budget.spent:
            flow.shed()
            self._count()
        return out

    def keep(self, boundaries: Iterable[int]) -> None:
        """Forget every boundary but these: no Hop begins there any more, or it carries by itself."""
        for boundary in set(self._flows) - set(boundaries):
            del self._flows[boundary]
        self._count()

    def halt(self) -> None:
        """Nothing crosses until the Route stands again."""
        self._certain.clear()
        for flow in self._flows.values():
            flow.halt()

    def close(self) -> None:
        self.keep(())

    def _count(self) -> None:
        used = sum(flow.rows.size for flow in self._flows.values())
        self._budget.used += used - self._used
        self._used = used
