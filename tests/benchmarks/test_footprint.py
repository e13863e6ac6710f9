from __future__ import annotations

import os

import pytest

from benchmarks import footprint
from benchmarks.footprint import Plan, Window, overlap_rate

RESULT = {
    "first_start_s": 40.0, "start_s": 2.5, "p2pd_bytes": 6e7, "alone_tokens_s": 20.0, "together_tokens_s": 17.0,
    "together_of_alone": 0.85,
}  # fmt: skip


def test_only_the_time_when_both_decode_counts():
    early = Window([0.0, 1.0, 2.0, 3.0, 4.0])
    late = Window([2.0, 2.5, 3.0, 3.5, 4.0, 4.5])
    assert overlap_rate([early, late]) == 1.0 + 2.0


def test_sessions_that_never_met_are_no_measurement():
    with pytest.raises(RuntimeError, match="before the other had begun"):
        overlap_rate([Window([0.0, 1.0]), Window([2.0, 3.0])])


def test_memory_is_read_in_its_parts():
    found = footprint.memory(os.getpid())
    assert found["resident"] >= found["own"] > 1 << 20
    assert footprint.daemons_bytes(os.getpid()) >= 0


def test_bars_are_memory_start_and_company():
    plan = Plan()
    assert plan.kv_bytes == 22 * 2 * 256 * 2 * 4096
    resident = round(plan.allowed_bytes * 1.01)
    result = {**RESULT, "bytes": {"resident": resident, "own": resident // 4, "mapped": resident // 2}}
    assert [bar.met for bar in footprint.bars(plan, result)] == [False, True, False]
    footprint.show(plan, result)
