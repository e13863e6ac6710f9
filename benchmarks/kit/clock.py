"""Taking turns: contestants measured alternately, A B A B, so that a noisy minute hits all of them alike.

A ratio is the median of the rounds' own ratios, which is steadier than the ratio of two medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.progress import Progress

Seconds = Callable[[], float]
"""Does its work once and returns how many seconds that took."""

SETTLE_S = 0.03  # between two contestants: OpenMP's threads spin for some 6 ms after their work is done


@dataclass(frozen=True)
class Samples:
    """Seconds of every contestant, round by round."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def speed(self, name: str, yardstick: str) -> float:
        """How many times as fast as ``yardstick`` it was, where both did the same work."""
        pairs = zip(self.seconds[name], self.seconds[yardstick], strict=True)
        return statistics.median(theirs / ours for ours, theirs in pairs)


def timed(work: Callable[[], object]) -> Seconds:
    def seconds() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return seconds


def take_turns(contestants: Mapping[str, Seconds], rounds: int, advance: Callable[[], object] | None = None) -> Samples:
    """One round to warm up, then ``rounds`` that count. ``advance`` hears of every round, the first included."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for index in range(rounds + 1):
        for name, seconds in contestants.items():
            time.sleep(SETTLE_S)
            took = seconds()
            if index:
                taken[name].append(took)
        if advance is not None:
            advance()
    return Samples(taken)


def stepper(progress: Progress, title: str, steps: int) -> Callable[[], object]:
    """A progress bar's task and the function that moves it on."""
    task = progress.add_task(title, total=steps)
    return lambda: progress.advance(task)
