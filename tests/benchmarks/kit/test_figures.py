from __future__ import annotations

import pytest

from benchmarks.kit.figures import (
    Arrivals,
    Distances,
    contiguous_sessions,
    first_difference,
    growth,
    overlap_rate,
    percentile,
    percentiles,
    pipeline_gain,
    stall_s,
    trips,
)

FAR = Distances(client_s=0.075, peers_s=0.005, hops=4)


def test_a_percentile_is_a_value_that_occurred():
    values = [4.0, 1.0, 3.0, 2.0]
    assert [percentile(values, percent) for percent in (0, 25, 50, 51, 100)] == [1.0, 1.0, 2.0, 3.0, 4.0]
    assert percentiles(values, 50, 95, scale=1e3) == {"p50": 2000.0, "p95": 4000.0}
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_gap_belongs_to_the_token_that_ends_it():
    arrivals = Arrivals([0.0, 1.0, 3.0, 3.5])
    assert arrivals.gaps() == [1.0, 2.0, 0.5]
    assert arrivals.gaps(1.0, 3.0) == [2.0]


def test_a_stall_that_outlasts_the_window_is_one_of_those_across_it():
    assert Arrivals([0.0, 1.0, 9.0]).gaps_across(2.0, 3.0) == [8.0]
    assert Arrivals([0.0, 1.0, 9.0]).gaps(2.0, 3.0) == []


def test_the_rate_of_several_is_that_of_the_time_in_which_all_decode():
    early, late = Arrivals([float(at) for at in range(11)]), Arrivals([5.0 + at / 2 for at in range(21)])
    assert overlap_rate([early, late]) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="was over before"):
        overlap_rate([Arrivals([0.0, 1.0]), Arrivals([2.0, 3.0])])


@pytest.mark.parametrize(("shape", "step_s"), [("star", 0.6), ("chain", 0.165), ("ring", 0.02)])
def test_the_floor_is_what_the_ways_of_the_shape_take(shape: str, step_s: float):
    assert FAR.step_s(shape) == pytest.approx(step_s)
    assert FAR.floor_tokens_s(shape, 0.005) == pytest.approx(1 / (step_s + 0.005))


def test_the_first_token_of_a_ring_travels_as_in_a_chain():
    assert FAR.first_token_s("ring") == FAR.step_s("chain")
    assert FAR.first_token_s("star") == FAR.step_s("star")


def test_a_ring_of_one_hop_has_no_ways():
    assert Distances(0.075, 0.005, 1).step_s("ring") == trips("ring", 1) == 0
    assert [trips(shape, 3) for shape in ("star", "chain", "ring")] == [6, 4, 3]
    with pytest.raises(ValueError, match="no shape"):
        FAR.step_s("tree")


@pytest.mark.parametrize(
    ("tokens", "chunk", "hops", "gain"),
    [(1000, 1000, 2, 1.0), (1000, 500, 2, 2000 / 1500), (1000, 256, 2, 2000 / 1256), (1000, 128, 2, 2000 / 1128),
     (300, 100, 3, 900 / 500), (7, 2, 1, 1.0)],
)  # fmt: skip
def test_a_pipeline_gains_what_its_chunks_allow(tokens: int, chunk: int, hops: int, gain: float):
    assert pipeline_gain(tokens, chunk, hops) == pytest.approx(gain)


def test_a_token_that_was_on_its_way_does_not_hide_the_stall():
    assert stall_s([1.0, 2.0, 2.1, 3.1, 3.2], struck_at=2.05) == pytest.approx(1.0)
    assert stall_s([1.0, 2.0, 2.8], struck_at=2.05) == pytest.approx(0.75)
    assert stall_s([1.0], struck_at=2.0) == 0.0


def test_growth_is_one_for_what_stays_flat_after_a_warm_up():
    assert growth([1.0, 2.0, 3.0, *[4.0] * 6]) == 1.0
    assert growth([float(at) for at in range(1, 10)]) == pytest.approx(8 / 5)
    with pytest.raises(ValueError, match="at least 6"):
        growth([1.0] * 5)


def test_texts_part_where_they_differ_or_one_ends():
    assert first_difference([1, 2], (1, 2)) is None
    assert first_difference([1, 2, 3], [1, 5, 3]) == 1
    assert first_difference([1, 2], [1, 2, 3]) == 2


def test_contiguous_buffers_take_their_greatest_length():
    assert contiguous_sessions(8192, 2048) == 4
