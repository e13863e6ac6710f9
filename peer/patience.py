"""Patience: whether a Batch that is small waits a moment for more decodes. Pure numbers.

Sessions that were computed one by one come back one by one, and would stay apart for ever: each finds the Hop just
begun with another. A few short waits let them meet, and then they go round together. Where they do not, waiting would
only cost: after a handful of waits the next handful comes 16 Batches later, then 32, 64, … at most 512, and only after
many Batches that were large enough is it 16 again.
"""

from __future__ import annotations

SHARE = 1.5  # of a decode Batch's time is waited at most: what a neighbour has begun just now is here by then
HANDFUL = 8  # waits; one in vain counts for four
FIRST_PAUSE = 16
MAX_PAUSE = 512
CALM = 32  # Batches


class Patience:
    def __init__(self) -> None:
        self._since: float | None = None  # a wait is on
        self._left = HANDFUL
        self._skip = 0  # Batches until the next wait
        self._pause = FIRST_PAUSE
        self._calm = 0  # Batches in a row that were large enough

    def wait_s(self, ready: int, share: float, decode_s: float | None, now: float) -> float:
        """How long to wait for more than ``ready`` decodes where a fair ``share`` would be so many; 0: go on. Three
        quarters of it are enough: the last one may be on its own for ever.
        """
        least = int(share + 1e-6)
        if ready >= least - least // 4 or decode_s is None:
            if self._since is not None:
                self._end(1)
            self._calm += 1
            if self._calm >= CALM:
                self._left, self._skip, self._pause = HANDFUL, 0, FIRST_PAUSE
            return 0.0
        self._calm = 0
        if self._since is None:
            if self._skip > 0:
                self._skip -= 1
                return 0.0
            self._since = now
        left = SHARE * decode_s - (now - self._since)
        if left > 1e-3 * decode_s:
            return left
        self._end(4)
        return 0.0

    def _end(self, cost: int) -> None:
        self._since = None
        self._left -= cost
        if self._left <= 0:
            self._left, self._skip = HANDFUL, self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE)
