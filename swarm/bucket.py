"""TokenBucket, and Buckets for callers of whom there may be any number. Pure: times are passed in."""

from __future__ import annotations

from collections import OrderedDict

MAX_CALLERS = 4096


class TokenBucket:
    """``burst`` at once, ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: float, now: float):
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, now

    def take(self, now: float) -> float:
        """0 and one is taken, or the seconds until one could be."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level >= 1.0 - 1e-9:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self._rate


class Buckets:
    """One for each caller; only the latest ``MAX_CALLERS`` are remembered."""

    def __init__(self, rate: float, burst: float):
        self._rate, self._burst = rate, burst
        self._callers: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, caller: str, now: float) -> float:
        """0 and one is taken, or the seconds until one could be."""
        bucket = self._callers.get(caller)
        if bucket is None:
            bucket = self._callers[caller] = TokenBucket(self._rate, self._burst, now)
            if len(self._callers) > MAX_CALLERS:
                self._callers.popitem(last=False)
        self._callers.move_to_end(caller)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._callers)
