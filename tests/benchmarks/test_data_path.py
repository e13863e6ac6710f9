"""The pure parts of hop, load, wan, prefill, failover and capacity: sums and bars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from benchmarks import capacity, failover, hop, load, prefill, wan
from benchmarks.__main__ import NAMES, ONLY_BY_NAME
from benchmarks.kit.driving import Run, Step
from benchmarks.kit.figures import Distances
from kernels.types import PAGE_SIZE


@dataclass
class FakeResult:
    token_ids: tuple[int, ...] = ()
    failovers: int = 1
    accepted_tokens: int = 0


def a_run(begun: float, step_s: float, tokens: int = 11) -> Run:
    return Run(begun, [begun + 1.0 + step_s * index for index in range(tokens)], FakeResult())  # type: ignore[arg-type]


def test_a_hops_overhead_is_the_step_without_arithmetic_and_ways():
    steps = [Step(total=0.010, queue=0.001, compute=0.004)]
    assert hop.overheads(steps, echo_s=0.0004, shape="star", hops=2) == [pytest.approx((0.006 - 4 * 0.0002) / 2)]
    assert hop.overheads(steps, echo_s=0.0004, shape="ring", hops=2) == [pytest.approx((0.006 - 2 * 0.0002) / 2)]


def test_what_a_further_hop_adds_needs_no_clock_but_the_clients():
    row = hop.summary(hop.Plan(hops=3), "star", [a_run(0.0, 0.012)], [a_run(0.0, 0.008)], 0.0004)
    assert row["further_hop_ms"] == pytest.approx(2.0)
    assert "overhead_ms" not in row
    assert list(hop.bars({"shapes": {"star": row}})) == []


def test_the_bars_of_a_hop_are_those_of_the_best_shape():
    slow, fast = ({"overhead_ms": {"p50": p50, "p99": 2 * p50}} for p50 in (5.0, 0.9))
    judged = list(hop.bars({"shapes": {"star": slow, "ring": fast}}))
    assert [(bar.value, bar.bar, bar.met) for bar in judged] == [(0.9, 1.0, True), (1.8, 3.0, True)]


def loaded(model: str) -> dict[str, Any]:
    rates = {1: 20.0, 4: 66.0, 8: 90.0}
    return {
        "model": model,
        "sessions": {str(number): {"tokens_s": rate} for number, rate in rates.items()},
        "one_process": {"tokens_s": 21.0},
        "long_prompt": {"p99_times": 1.5},
    }


def test_load_is_judged_against_one_session_one_process_and_the_anchors():
    result = loaded("llama-1.1b-random")
    figures = load.ratios(result)
    assert figures["4_times_one"] == 3.3 and figures["8_times_one"] == 4.5
    assert figures["1_of_Petals"] == pytest.approx(4.878) and figures["4_of_llama.cpp"] == pytest.approx(1.215)
    met = {bar.what: bar.met for bar in load.bars(result, figures)}
    assert list(met.values()) == [True, False, True, True, True]


def test_another_model_is_not_held_against_the_anchors():
    result = loaded("sample")
    assert not any("of_" in name for name in load.ratios(result) if name[0].isdigit())
    assert not any("tokens/s" in bar.what for bar in load.bars(result, load.ratios(result)))


def test_the_long_prompt_fills_what_the_sessions_leave():
    plan = load.Plan()
    taken = plan.long_prompt + 1 + load.DECODING * plan.reserved
    assert plan.kv_tokens - taken == (load.DECODING + 1) * PAGE_SIZE


def test_a_path_is_measured_against_the_floor_of_its_shape():
    plan = wan.Plan(Distances(0.075, 0.005, 4))
    row = wan.summary(plan, "ring", [a_run(0.0, 0.025)])
    assert row["floor_tokens_s"] == 50.0 and row["tokens_s"] == 40.0 and row["of_floor"] == 0.8
    assert wan.summary(plan, wan.DRAFTS, [a_run(0.0, 0.025)])["wire_s"] == row["wire_s"]
    assert [bar.met for bar in wan.bars({"ring": row})] == [False]
    assert list(wan.bars({"star": row})) == []


def test_prefill_is_judged_by_the_rounds_own_ratios():
    slow = [Run(0.0, [2.0]), Run(0.0, [3.0]), Run(0.0, [40.0])]
    fast = [Run(0.0, [1.0]), Run(0.0, [2.0]), Run(0.0, [20.0])]
    assert prefill.gain(slow, fast) == 2.0
    judged = prefill.bars({"pipeline_times": 1.7, "again_of_first": 0.2})
    assert [bar.met for bar in judged] == [True, False]


def test_failover_counts_stalls_by_case_and_texts_that_differ():
    plan = failover.Plan(("star", "ring"), ("first",), runs=1)
    killed = failover.Outcome(failover.Case("star", "first", "killed", 0), 0.5, None, 1)
    outcomes = [
        killed,
        replace(killed, case=failover.Case("ring", "first", "killed", 0), stall_s=1.2, parts_at=9),
        replace(killed, case=failover.Case("star", "first", "frozen", 0), stall_s=2.0),
        replace(killed, case=failover.Case("ring", "first", "frozen", 0), stall_s=2.5, failovers=0),
    ]
    found = failover.summary(plan, outcomes)
    assert (found["texts_that_differ"], found["runs_without_failover"]) == (1, 1)
    assert found["killed"] == {"p50": 0.5, "p95": 1.2} and found["frozen_by"]["ring, first"]["p50"] == 2.5
    assert [bar.met for bar in failover.bars(found)] == [False, True, False]
    failover.show(plan, found)


def test_a_case_is_greedy_and_sampled_in_turns():
    cases = [failover.Case("star", "first", "killed", index) for index in range(3)]
    assert cases[0].sampling == cases[2].sampling == {} != cases[1].sampling


def test_capacity_has_to_bring_four_times_the_contiguous_and_lose_nobody():
    found = {"times_contiguous": 3.9, "texts_that_differ": 0, "left_early": 0}
    assert [bar.met for bar in capacity.bars(found)] == [False, True, True]


def test_the_soak_runs_only_when_it_is_named():
    assert set(ONLY_BY_NAME) <= set(NAMES) and "load" not in ONLY_BY_NAME
