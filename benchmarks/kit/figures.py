"""Sums about tokens that came: rates, gaps, percentiles, floors, and whether a figure stays flat. Pure numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Arrivals:
    """When a Session's tokens came."""

    times: Sequence[float]

    def rate(self, begin: float, end: float) -> float:
        """Tokens a second after ``begin``, up to and with ``end``."""
        return sum(begin < at <= end for at in self.times) / (end - begin)

    def gaps(self, begin: float = -math.inf, end: float = math.inf) -> list[float]:
        """Seconds between two tokens, of those that came after ``begin`` and not after ``end``.

        A gap belongs to the token that ends it, so a stall that begins before ``begin`` counts whole.
        """
        return [later - earlier for earlier, later in pairwise(self.times) if begin < later <= end]

    def gaps_across(self, begin: float, end: float) -> list[float]:
        """Those of which any part lies between the two: also a stall that outlasts it."""
        return [later - earlier for earlier, later in pairwise(self.times) if begin < later and earlier < end]


def overlap(sessions: Sequence[Arrivals]) -> tuple[float, float]:
    """From when all of them decode to when the first is over. Raises ValueError where they never do so together."""
    begin, end = max(each.times[0] for each in sessions), min(each.times[-1] for each in sessions)
    if begin >= end:
        raise ValueError("one session was over before the last had begun; take more tokens or a quieter machine")
    return begin, end


def overlap_rate(sessions: Sequence[Arrivals]) -> float:
    """Tokens a second of all, while all of them decode."""
    begin, end = overlap(sessions)
    return sum(each.rate(begin, end) for each in sessions)


def percentile(values: Iterable[float], percent: float) -> float:
    """By nearest rank: a value that occurred. Raises ValueError for none."""
    ranked = sorted(values)
    if not ranked:
        raise ValueError("no values, no percentile")
    return ranked[max(math.ceil(percent / 100 * len(ranked)), 1) - 1]


def percentiles(values: Iterable[float], *percents: float, scale: float = 1.0) -> dict[str, float]:
    """For a result: p50, p95, … of ``values`` times ``scale``."""
    ranked = sorted(values)
    return {f"p{percent:g}": round(percentile(ranked, percent) * scale, 4) for percent in percents}


@dataclass(frozen=True)
class Distances:
    """One-way times of a swarm: the client to every Hop, one Hop to the next, and the number of Hops."""

    client_s: float
    peers_s: float
    hops: int

    def step_s(self, shape: str) -> float:
        """What a token spends on the wire, from the one before it.

        star: out and back, once a Hop. chain: in, along, and out. ring: along, and from the last Hop to the first.
        """
        if shape == "star":
            return 2 * self.hops * self.client_s
        if shape == "chain":
            return 2 * self.client_s + (self.hops - 1) * self.peers_s
        if shape == "ring":
            return self.hops * self.peers_s if self.hops > 1 else 0.0
        raise ValueError(f"{shape!r} is no shape")

    def first_token_s(self, shape: str) -> float:
        """What the first token spends on the wire once the Seats are open: a ring's goes the way of a chain's."""
        return self.step_s("chain" if shape == "ring" else shape)

    def floor_tokens_s(self, shape: str, compute_s: float) -> float:
        """Tokens a second that no Session without drafts can exceed; ``compute_s`` is that of all Hops together."""
        return 1 / (self.step_s(shape) + compute_s)


def trips(shape: str, hops: int) -> int:
    """One-way messages from a token to the next."""
    return {"star": 2 * hops, "chain": hops + 1, "ring": hops if hops > 1 else 0}[shape]


def stall_s(times: Sequence[float], struck_at: float) -> float:
    """The longest time without a token from ``struck_at`` on.

    Not the time to the next token: that one may have been on its way already, and hide the stall behind it.
    """
    known = [struck_at, *(at for at in times if at > struck_at)]
    return max((later - earlier for earlier, later in pairwise(known)), default=0.0)


def growth(samples: Sequence[float]) -> float:
    """The median of the last third against that of the middle third: about 1 where a figure stays flat.

    The first third is for warming up. Raises ValueError for fewer than 6 samples.
    """
    if len(samples) < 6:
        raise ValueError(f"{len(samples)} samples say nothing of growth; take at least 6")
    third = len(samples) // 3
    return statistics.median(samples[-third:]) / statistics.median(samples[third:-third])


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Where two texts part; None where they are equal."""
    if tuple(ours) == tuple(theirs):
        return None
    pairs: Iterator[tuple[int, int]] = zip(ours, theirs, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


def pipeline_gain(tokens: int, chunk: int, hops: int) -> float:
    """How many times as fast as one after the other ``hops`` equal Hops can take a prompt in, whatever the wire.

    Every Chunk has to pass every Hop; the first Hop's last Chunk still has the other Hops before it.
    """
    sizes = [min(chunk, tokens - start) for start in range(0, tokens, chunk)]
    ready = [0.0] * (hops + 1)  # when each Hop has done its last Chunk; the prompt is there from the start
    for size in sizes:
        for hop in range(1, hops + 1):
            ready[hop] = max(ready[hop], ready[hop - 1] if hop > 1 else 0.0) + size
    return hops * tokens / ready[hops]


def contiguous_sessions(kv_tokens: int, max_length: int) -> int:
    """How many buffers for a text's greatest length there are in a cache."""
    return kv_tokens // max_length
