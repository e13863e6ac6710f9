from __future__ import annotations

from rich.progress import Progress

from benchmarks import kernels
from benchmarks.kit.shapes import SMALL

PLAN = kernels.Plan(
    shape=SMALL, rounds=1, context_rounds=1, batches=(1, 2), prefills=(4,), contexts=(40,), beyond=1 << 17,
    read_bytes=1 << 16, calls=1,
)  # fmt: skip


def test_every_shape_is_measured_at_every_batch_and_against_every_yardstick():
    found = kernels.measure(1, PLAN, Progress(disable=True))
    shapes = [*SMALL.matrices, kernels.FOUR]
    assert [(row["shape"], row["rows"]) for row in found.batch] == [(name, rows) for name in shapes for rows in (1, 2)]
    assert [(row["shape"], row["rows"]) for row in found.prefill] == [(name, 4) for name in shapes]
    assert {"c8", "F.linear f32", "F.linear bf16"} < set(found.prefill[0]["gflop_s"])
    assert {row["kernel"] for row in found.rest if row["rows"] == 1} > {"quantize", "attention after 40 tokens"}
    kernels.show(found)
    assert len(kernels.bars(found)) == 4


def test_the_bar_of_the_worst_shape_is_the_worst_shapes():
    found = kernels.Findings(1, "x")
    found.batch = [{"shape": name, "rows": 1, "kernel_of_read": share} for name, share in (("a", 0.99), ("b", 0.8))]
    found.batch += [
        {"shape": "b", "rows": 2, "kernel_of_read": 0.1},
        {"shape": kernels.FOUR, "rows": 1, "kernel_of_read": 0.96},
    ]
    all_four, worst = kernels.bars(found)
    assert all_four.met and not worst.met and worst.value == 0.8
