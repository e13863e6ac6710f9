"""Rate: tokens a second from a Peer's counter, read now and then by one clock of ours. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_S = 3.0  # what is shown is the mean of the last so many seconds, and of one reading more
LEAST_S = 0.5  # two readings closer than that say little
MOST_PER_S = 1e7  # more than that nobody computes: a stranger's joke


class Rate:
    """``note`` readings in the order of their times; a counter that falls is a new one."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque(maxlen=64)

    def note(self, at: float, count: int) -> None:
        if self._readings and count < self._readings[-1][1]:
            self._readings.clear()
        self._readings.append((at, count))
        while len(self._readings) > 2 and self._readings[1][0] <= at - WINDOW_S:
            self._readings.popleft()

    def forget(self) -> None:
        self._readings.clear()

    @property
    def per_s(self) -> float | None:
        """None until two readings say it."""
        if len(self._readings) < 2:
            return None
        (begun, first), (ended, last) = self._readings[0], self._readings[-1]
        if ended - begun < LEAST_S:
            return None
        rate = (last - first) / (ended - begun)
        return rate if rate <= MOST_PER_S else None
