"""Vigil: how long a Session may hear nothing, and what that means.

Silence is suspicious soon, and judged by asking: a Peer that does not answer Info is frozen, one that does is busy. The
busy get time, by their own figures of what they have to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from client.config import ClientConfig
from client.lane import Lane, Lines
from swarm.clock import Clock

BUSY_FACTOR = 4.0  # times what a busy peer needs by its own figures
LONGEST_BUSY_S = 1800.0  # whatever it claims


class Vigil:
    """``heard`` at every sign of life, ``look`` after ``suspect_after_s`` of silence."""

    def __init__(self, lines: Lines, config: ClientConfig, clock: Clock):
        self._lines, self._config, self._clock = lines, config, clock
        self._since = clock.monotonic()
        self._allowed_s = config.busy_timeout_s

    @property
    def suspect_after_s(self) -> float:
        return self._config.suspect_after_s

    @property
    def waited_s(self) -> float:
        return self._clock.monotonic() - self._since

    @property
    def overdue(self) -> bool:
        """Whether even the busy had time enough."""
        return self.waited_s >= self._allowed_s

    def heard(self) -> None:
        self._since, self._allowed_s = self._clock.monotonic(), self._config.busy_timeout_s

    async def look(self, lanes: Sequence[Lane]) -> list[Lane]:
        """Ask all at once; returns those who do not answer."""
        infos = await asyncio.gather(*(self._lines.responsive(lane.hop.peer) for lane in lanes))
        claimed_s = 0.0
        for lane, info in zip(lanes, infos, strict=True):
            if info is not None:
                # Its speed as announced before it was chosen: slowness claimed only when late excuses nothing.
                block_s = min(info.block_s, lane.hop.peer.block_s)
                claimed_s += BUSY_FACTOR * block_s * len(lane.span) * (info.queue_tokens + lane.max_chunk_tokens)
        self._allowed_s = max(self._allowed_s, min(claimed_s, LONGEST_BUSY_S))  # a queue only shrinks while it works
        return [lane for lane, info in zip(lanes, infos, strict=True) if info is None]
