"""Whole rings of Hops on virtual time around the real scheduler."""

from __future__ import annotations

import math

import pytest

from peer.scheduler import Batch
from tests.support.ring import Ring, flat_then_linear


@pytest.mark.parametrize("latency", [0.0, 0.02, 0.1])
@pytest.mark.parametrize(("num_hops", "bars"), [(2, (1.8, 3.2, 5.0, 8.0)), (3, (1.9, 2.9, 5.0, 8.0))])
def test_sessions_in_a_ring_keep_all_its_hops_busy(num_hops: int, bars: tuple[float, ...], latency: float):
    """Hops whose Batch of 4 takes as long as one of 1, and one of 16 takes 2.3 times that."""

    def rate(num_sessions: int) -> tuple[float, list[float]]:
        ring = Ring(num_hops, latency=latency)
        for index in range(num_sessions):
            ring.decode(f"s{index}")
        ring.run(100)
        before = [hop.busy for hop in ring.hops]
        ring.run(300)
        return ring.rate(100), [(hop.busy - b) / 200 for hop, b in zip(ring.hops, before, strict=True)]

    single, _ = rate(1)
    assert single == pytest.approx(1 / (num_hops * (1 + latency)), rel=0.05), "nobody waits for itself"
    for num_sessions, bar in zip((2, 4, 8, 16), bars, strict=True):
        reached, busy = rate(num_sessions)
        assert reached >= bar * single, (num_sessions, reached / single)
        if num_sessions >= 8 and num_hops == 2:
            assert min(busy) > 0.9, (num_sessions, busy)


def test_two_sessions_that_come_at_different_times_meet():
    ring = Ring(1)
    ring.decode("a")
    ring.run(10.5)
    ring.decode("b")
    ring.run(300)
    assert ring.rate(100) > 1.9


def test_sessions_that_vanish_leave_the_others_no_slower_than_alone():
    ring = Ring(2)
    for index in range(8):
        ring.decode(f"s{index}")
    ring.run(100)
    for index in range(1, 8):
        ring.vanish(f"s{index}")
    ring.run(200)
    assert max(ring.gaps("s0", 150)) < 2.1


def attention(batch: Batch[str]) -> float:
    """As ``flat_then_linear``, and a position costs as much again every 700 before it."""
    far = sum(p for work in batch.works if work.chunk.count > 1 for p in range(work.chunk.position, work.chunk.end))
    return max(1.0, 0.55 + 0.11 * batch.num_tokens + 0.11 * far / 700)


@pytest.mark.parametrize("cost", [flat_then_linear, attention])
@pytest.mark.parametrize("latency", [0.02, 0.2, 5.0])
def test_a_long_prompt_at_most_doubles_the_intervals_of_four_that_decode(cost, latency: float):
    ring = Ring(2, cost, latency)
    sessions = [f"s{index}" for index in range(4)]
    for name in sessions:
        ring.decode(name)
    ring.run(100)
    before = max(percentile(ring.gaps(name, 50)) for name in sessions)
    ring.prompt("long", 2000, "somebody else")
    while not ring.times["long"]:
        ring.run(ring.now + 10)
        assert ring.now < 2500, "the prompt starves"
    assert max(percentile(ring.gaps(name, 100)) for name in sessions) <= 2 * before


def percentile(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def test_a_prompt_that_nobody_disturbs_goes_in_whole_chunks():
    ring = Ring(2)
    ring.prompt("long", 2048)
    ring.run(300)
    assert [batch.num_tokens for batch in ring.hops[0].batches[:8]] == [256] * 8
    assert ring.times["long"][0] < 9.3 * flat_then_linear(ring.hops[0].batches[0]), "hop 2 is one Chunk behind"
