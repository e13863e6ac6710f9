"""Do the kernels run at the machine's limit? The shapes of a Block of TinyLlama-1.1B, random weights.

**Batch 1 to 16.** A row's linear layer is the reading of the matrix: 1.03 bytes a weight, so the floor is those bytes
by the machine's read bandwidth, measured in the same run by a plain sum over 512 MB with as many threads. Matrices are
walked in turn, more than 256 MB of them, so that no cache holds them. Bar: 0.95 of the bandwidth at batch 1, without
the border: crossing from Python to a kernel and back takes 10 to 13 us (measured in the same rounds), a tenth of the
smallest matrix's time; a peer crosses it once a Block.

**Prefill.** 64 to 512 rows: 2 * rows * inputs * outputs operations, in GFLOP/s. The yardstick is fbgemm's dynamic INT8
linear (``quantized::linear_dynamic``), FP32 in and out on both sides, so ours is ``quantize`` and ``linear``. It has
one scale a tensor where c8 has one in 64 channels. Bar: 0.95 of the faster of torch's engines ``fbgemm`` and ``x86``.
FP32 and bf16 ``F.linear`` are beside it.

**The rest** in microseconds: what a Block does between its matrices. Contestants take turns, medians.

    python -m benchmarks.kernels [--threads 1 2] [--quick]
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import Progress
from rich.table import Table

import kernels
from benchmarks.kit.clock import Seconds, stepper, take_turns, timed
from benchmarks.kit.machine import ReadBandwidth, with_default_openmp
from benchmarks.kit.operands import BEYOND_CACHES, beyond_caches, nbytes, operand, random_batch, random_linear
from benchmarks.kit.report import Bar, conclude, console, progress
from benchmarks.kit.shapes import LLAMA_1B, LlamaShape
from kernels.types import GROUP

FOUR = "all four in turn"
BATCHES, PREFILLS = (1, 2, 4, 8, 16), (64, 128, 256, 512)
ENGINES = ("fbgemm", "x86")


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often."""

    shape: LlamaShape = LLAMA_1B
    rounds: int = 9
    context_rounds: int = 3  # of what is beside the bars
    batches: tuple[int, ...] = BATCHES
    prefills: tuple[int, ...] = PREFILLS
    contexts: tuple[int, ...] = (100, 2000)
    beyond: int = BEYOND_CACHES
    read_bytes: int = 512 << 20
    calls: int = 200


@dataclass
class Findings:
    """Of one number of threads."""

    threads: int
    isa: str
    read_gb_s: float = 0.0
    read_how: str = ""
    batch: list[dict[str, Any]] = field(default_factory=list)
    prefill: list[dict[str, Any]] = field(default_factory=list)
    rest: list[dict[str, Any]] = field(default_factory=list)


def small_batches(arithmetic: Any, plan: Plan, found: Findings, advance: Callable[[], object]) -> None:
    """One to sixteen rows against the read bandwidth."""
    bandwidth = ReadBandwidth(arithmetic, found.threads, plan.read_bytes)
    found.read_how = bandwidth.how
    matrices = {name: operand(arithmetic, random_linear(*size)) for name, size in plan.shape.matrices.items()}
    reads: list[float] = []
    for name in (*matrices, FOUR):
        walked = _four(list(matrices.values()), plan.beyond) if name == FOUR else None
        walked = walked or beyond_caches(matrices[name], plan.beyond)
        total = sum(map(nbytes, walked))
        contestants: dict[str, Seconds] = {"read": bandwidth.seconds, "border": timed(_border(arithmetic, len(walked)))}
        for rows in plan.batches:
            contestants[str(rows)] = timed(_walk(arithmetic, walked, rows))
        taken = take_turns(contestants, plan.rounds, advance)
        reads += taken.seconds["read"]
        for rows in plan.batches:
            gb_s = total / taken.median(str(rows)) / 1e9
            share = taken.speed(str(rows), "read") * total / bandwidth.nbytes
            inside = taken.median(str(rows)) - taken.median("border")
            row = {"shape": name, "rows": rows, "gb_s": round(gb_s, 2), "of_read": round(share, 4)}
            found.batch.append({**row, "kernel_of_read": round(share * taken.median(str(rows)) / inside, 4)})
    found.read_gb_s = round(bandwidth.nbytes / sorted(reads)[len(reads) // 2] / 1e9, 2)


def prefill(arithmetic: Any, plan: Plan, found: Findings, advance: Callable[[], object]) -> None:
    """Many rows against fbgemm."""
    torch.set_num_threads(found.threads)
    for rows in plan.prefills:
        totals: dict[str, float] = defaultdict(float)  # seconds
        for name, (outputs, inputs) in plan.shape.matrices.items():
            matrix, x = operand(arithmetic, random_linear(outputs, inputs)), torch.randn(rows, inputs)
            weight = torch.randn(outputs, inputs) * inputs**-0.5
            contestants: dict[str, Seconds] = {"c8": timed(partial(_linear, arithmetic, x, matrix))}
            contestants |= {engine: timed(_dynamic(engine, weight, x)) for engine in _engines()}
            taken = take_turns(contestants, plan.rounds, advance)
            beside = {
                "F.linear f32": timed(partial(F.linear, x, weight)),
                "F.linear bf16": timed(partial(F.linear, x.bfloat16(), weight.bfloat16())),
            }
            slower = take_turns(beside, plan.context_rounds, advance)
            seconds = {who: taken.median(who) for who in contestants} | {who: slower.median(who) for who in beside}
            for who, took in seconds.items():
                totals[who] += took
            best = min(_engines(), key=taken.median)
            row = {"shape": name, "rows": rows, "of_fbgemm": round(taken.speed("c8", best), 4)}
            found.prefill.append({**row, "gflop_s": _rates(2.0 * rows * outputs * inputs, seconds)})
        best = min(_engines(), key=lambda engine: totals[engine])
        row = {"shape": FOUR, "rows": rows, "of_fbgemm": round(totals[best] / totals["c8"], 4)}
        found.prefill.append({**row, "gflop_s": _rates(2.0 * rows * plan.shape.block_weights, totals)})


def rest(arithmetic: Any, plan: Plan, found: Findings, advance: Callable[[], object]) -> None:
    """What is not a linear layer, for a row and for the largest prefill."""
    shape, most = plan.shape, max(plan.prefills)
    for rows in (1, most):
        x, gate_up = torch.randn(rows, shape.hidden), torch.randn(rows, 2 * shape.inner)
        heads = torch.randn(rows, shape.heads + shape.kv_heads, shape.head_dim)
        batch = random_batch(shape, 1, rows, 0)
        ones, eps = torch.ones(shape.hidden), shape.block_shape.eps
        works: dict[str, Callable[[], object]] = {
            "quantize": partial(arithmetic.quantize, x, GROUP),
            "norm_quantize": partial(arithmetic.norm_quantize, x, ones, eps, GROUP),
            "gated_quantize": partial(arithmetic.gated_quantize, gate_up, GROUP),
            "rope": partial(arithmetic.rope, heads, batch.cos, batch.sin),
        }
        for context in plan.contexts if rows == 1 else (0,):
            works[f"attention after {context} tokens"] = _attention(arithmetic, plan, rows, context)
        calls = plan.calls if rows == 1 else 1
        taken = take_turns({name: timed(_often(work, calls)) for name, work in works.items()}, plan.rounds, advance)
        for name in works:
            found.rest.append({"kernel": name, "rows": rows, "us": round(taken.median(name) / calls * 1e6, 2)})


def measure(threads: int, plan: Plan, bar: Progress) -> Findings:
    arithmetic: Any = kernels.select(threads=threads)
    found = Findings(threads, arithmetic.name)
    per_shape = len(plan.shape.matrices)
    steps = (per_shape + 1) * (plan.rounds + 1) + 2 * (plan.rounds + 1)
    steps += len(plan.prefills) * per_shape * (plan.rounds + plan.context_rounds + 2)
    advance = stepper(bar, f"kernels, {threads} thread{'s' * (threads > 1)}", steps)
    with torch.inference_mode():
        small_batches(arithmetic, plan, found, advance)
        prefill(arithmetic, plan, found, advance)
        rest(arithmetic, plan, found, advance)
    return found


def bars(found: Findings) -> list[Bar]:
    at = f"{found.threads} thread{'s' * (found.threads > 1)}"
    singles = {row["shape"]: row["kernel_of_read"] for row in found.batch if row["rows"] == 1}
    worst = min((name for name in singles if name != FOUR), key=lambda name: singles[name])
    made = [
        Bar(f"batch 1, {at}: {FOUR}, of the read bandwidth", singles[FOUR], 0.95),
        Bar(f"batch 1, {at}: the worst shape ({worst}), of the read bandwidth", singles[worst], 0.95),
    ]
    for rows in sorted({row["rows"] for row in found.prefill}):
        ratios = {row["shape"]: row["of_fbgemm"] for row in found.prefill if row["rows"] == rows}
        worst = min((name for name in ratios if name != FOUR), key=lambda name: ratios[name])
        made.append(Bar(f"{rows} rows, {at}: {FOUR}, of fbgemm", ratios[FOUR], 0.95))
        made.append(Bar(f"{rows} rows, {at}: the worst shape ({worst}), of fbgemm", ratios[worst], 0.95))
    return made


def show(found: Findings) -> None:
    title = f"{found.isa}, {found.threads} thread(s); plain reading ({found.read_how}): {found.read_gb_s:.1f} GB/s"
    batches = sorted({row["rows"] for row in found.batch})
    table = Table(
        "GB/s of weights (of plain reading, without the border)", *(f"{rows} rows" for rows in batches), title=title
    )
    for name in dict.fromkeys(row["shape"] for row in found.batch):
        found_here = [row for row in found.batch if row["shape"] == name]
        cells = [f"{row['gb_s']:.1f} ({row['of_read']:.2f}, {row['kernel_of_read']:.2f})" for row in found_here]
        table.add_row(name, *cells)
    console().print(table)
    columns = list(dict.fromkeys(who for row in found.prefill for who in row["gflop_s"]))
    table = Table("rows", "shape", *(f"{who}, GFLOP/s" for who in columns), "of fbgemm")
    for row in found.prefill:
        rates = [f"{row['gflop_s'][who]:.0f}" for who in columns]
        table.add_row(str(row["rows"]), row["shape"], *rates, f"{row['of_fbgemm']:.2f}")
    console().print(table)
    table = Table("kernel", "rows", "µs a call", "µs a row")
    for row in found.rest:
        table.add_row(row["kernel"], str(row["rows"]), f"{row['us']:.1f}", f"{row['us'] / row['rows']:.2f}")
    console().print(table)


def _rates(operations: float, seconds: Mapping[str, float]) -> dict[str, float]:
    """GFLOP/s."""
    return {who: round(operations / taken / 1e9, 1) for who, taken in seconds.items()}


def _linear(arithmetic: Any, x: torch.Tensor, matrix: Any) -> torch.Tensor:
    return arithmetic.linear(arithmetic.quantize(x, GROUP), matrix)


def _four(matrices: list[Any], least: int) -> list[Any]:
    """q|k|v, o, gate|up, down of one Block after another."""
    blocks = least // sum(map(nbytes, matrices)) + 1
    copies = [beyond_caches(matrix, (blocks - 1) * nbytes(matrix)) for matrix in matrices]
    return [matrix for block in zip(*copies, strict=True) for matrix in block]


def _walk(arithmetic: Any, matrices: list[Any], rows: int) -> Callable[[], None]:
    widths = {matrix.in_features for matrix in matrices}
    x = {width: arithmetic.quantize(torch.randn(rows, width), GROUP) for width in widths}

    def walk() -> None:
        for matrix in matrices:
            arithmetic.linear(x[matrix.in_features], matrix)

    return walk


def _border(arithmetic: Any, calls: int) -> Callable[[], None]:
    """So many calls that compute next to nothing: what crossing from Python to the kernels and back takes."""
    matrix, x = operand(arithmetic, random_linear(GROUP, GROUP)), arithmetic.quantize(torch.randn(1, GROUP), GROUP)

    def walk() -> None:
        for _ in range(calls):
            arithmetic.linear(x, matrix)

    return walk


def _engines() -> list[str]:
    """Those of ``quantized::linear_dynamic`` that this build of torch has."""
    return [name for name in ENGINES if name in torch.backends.quantized.supported_engines]


def _dynamic(engine: str, weight: torch.Tensor, x: torch.Tensor) -> Callable[[], object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it will drop this yardstick one day
        torch.backends.quantized.engine = engine
        scale = (weight.abs().amax(1) / 127.0).double()
        rounded = torch.quantize_per_channel(weight, scale, torch.zeros(len(weight), dtype=torch.int64), 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(rounded, None)

    def run() -> object:
        torch.backends.quantized.engine = engine
        return torch.ops.quantized.linear_dynamic(x, packed, False)

    return run


def _attention(arithmetic: Any, plan: Plan, rows: int, context: int) -> Callable[[], object]:
    """A Chunk of a Seat, in one Block's Pages after another's, as a step meets them."""
    blocks = [random_batch(plan.shape, 1, rows, context, seed) for seed in range(plan.shape.blocks if rows == 1 else 1)]
    q = torch.randn(rows, plan.shape.heads, plan.shape.head_dim)
    turn = iter(range(1 << 62))

    def run() -> object:
        b = blocks[next(turn) % len(blocks)]
        return arithmetic.attention(q, blocks[0].rows, b.k_pages, b.v_pages, None)

    return run


def _often(work: Callable[[], object], calls: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(calls):
            work()

    return run


def result(plan: Plan, found: list[Findings]) -> Mapping[str, Any]:
    shapes = {name: list(size) for name, size in plan.shape.matrices.items()}
    return {"shapes": shapes, "rounds": plan.rounds, "threads": [vars(findings) for findings in found]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Kernels against the machine's limits.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="a third of the rounds")
    args = parser.parse_args()
    with_default_openmp("benchmarks.kernels")
    plan = Plan(rounds=3, context_rounds=1) if args.quick else Plan()
    found: list[Findings] = []
    with progress() as bar:
        for threads in args.threads:
            found.append(measure(threads, plan, bar))
    for findings in found:
        show(findings)
    made = [bar for findings in found for bar in bars(findings)]
    conclude("kernels", made, {**result(plan, found)})


if __name__ == "__main__":
    main()
