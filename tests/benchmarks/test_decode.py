from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from benchmarks import decode
from benchmarks.kit.shapes import SMALL

PLAN = decode.Plan(shape=SMALL, rounds=1, prefill_rounds=1, steps=2, contexts=(10, 50), prompts=(8, 32))


class FakeWorker:
    """Answers like a machine of 10 GB/s; the seconds of a token are given."""

    def __init__(self, near: float, far: float = 0.0, prefill: float = 0.0):
        self.times = {10: near, 50: far}
        self.prefill_s = prefill

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, function: str, **arguments: Any) -> Any:
        if function == "decode":
            return self.times[arguments["context"]]
        return {"about": {"isa": "fake"}, "read": 1e-10, "prefill": self.prefill_s}[function]


@pytest.fixture
def floor_s() -> float:
    return SMALL.step_bytes(10) * 1e-10


def measured(monkeypatch: pytest.MonkeyPatch, floor_s: float, files: dict[str, Path]) -> decode.Findings:
    ours = iter([FakeWorker(floor_s / 0.9, 2 * floor_s, 1.0), FakeWorker(floor_s / 100)])
    monkeypatch.setattr(decode, "_ours", lambda *_: next(ours))
    monkeypatch.setattr(decode, "_llama", lambda path, *_: FakeWorker(2 * floor_s, 0.0, 2.5 if path.name else 0.0))
    return decode.measure(1, PLAN, Path(), (Path(), Path(), files), Progress(disable=True))


def test_rates_shares_and_ratios_are_what_the_workers_seconds_mean(monkeypatch: pytest.MonkeyPatch, floor_s: float):
    found = measured(monkeypatch, floor_s, {"Q8_0": Path("q"), "BF16": Path("b")})
    assert found.read_gb_s == 10.0
    assert found.of_floor["10"] == pytest.approx(0.9, rel=1e-3)
    assert found.kept_at_context == pytest.approx(1 / 1.8, rel=1e-3)
    assert found.python_share == pytest.approx(0.009, rel=1e-2)
    assert found.faster["Q8_0"] == {
        "decode at 10": pytest.approx(1.8, rel=1e-3), "prefill of 8": 2.5, "prefill of 32": 2.5,
    }  # fmt: skip
    assert found.prefill[decode.OURS] == {"8": 8.0, "32": 32.0}
    assert [bar.met for bar in decode.bars(PLAN, found)] == [True, False, True, True, True, True]
    decode.show(PLAN, found)


def test_without_llama_cpp_its_bars_and_columns_are_left_out(monkeypatch: pytest.MonkeyPatch, floor_s: float):
    found = measured(monkeypatch, floor_s, {})
    assert [bar.what for bar in decode.bars(PLAN, found) if "llama" in bar.what] == []
    assert list(found.decode) == [decode.OURS]
    decode.show(PLAN, found)


def test_what_is_measured_is_made_once(tmp_path: Path):
    made = decode.prepare(PLAN, tmp_path, (), Progress(disable=True))
    assert made == decode.prepare(PLAN, tmp_path, (), Progress(disable=True))
    assert (made[0] / "config.json").exists() and (made[1] / "config.json").exists() and made[2] == {}
