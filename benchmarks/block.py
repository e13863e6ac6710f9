"""What does a whole Block cost, how much of that is Python, and are its bits those of every implementation?

One decoder Block of TinyLlama-1.1B's shape, as the runner calls it: rows of Seats at 100 and 2,000 tokens of context.
One and eight rows are so many Seats that decode; 64 and 512 are a Chunk of one Seat's prompt. Six Blocks are walked in
turn, 270 MB, so that weights come from memory.

The physics: few rows read the Block's 45 MB and their Seats' keys and values, so the floor is those bytes by the read
bandwidth of the same run; many rows are 2 * rows * 44 million operations, printed as GFLOP/s. **Python** is what one
call takes on a Block of the same make whose arithmetic is next to nothing (hidden 64): an upper bound, for it holds the
border checks, the call and the little arithmetic. **Bits**: the same rows through every implementation that runs here;
output, keys and values compared byte for byte.

    python -m benchmarks.block [--threads 1 2] [--quick]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

import kernels
from benchmarks.kit.clock import Seconds, stepper, take_turns, timed
from benchmarks.kit.machine import ReadBandwidth
from benchmarks.kit.operands import (
    BEYOND_CACHES,
    Batch,
    BlockOf,
    clone_block,
    nbytes,
    random_batch,
    random_block,
)
from benchmarks.kit.report import Bar, conclude, console, progress
from benchmarks.kit.shapes import BORDER, LLAMA_1B, LlamaShape
from swarm.errors import UsageError

DECODES = (1, 8)  # rows that are Seats of one row each
CHUNKS = (64, 512)  # rows of one Seat
NATIVE = ("avx512", "avx2", "portable")
REFERENCE_ROWS = 8  # the definition is slow


@dataclass(frozen=True)
class Plan:
    shape: LlamaShape = LLAMA_1B
    rounds: int = 15
    chunk_rounds: int = 5
    decodes: tuple[int, ...] = DECODES
    chunks: tuple[int, ...] = CHUNKS
    contexts: tuple[int, ...] = (100, 2000)
    beyond: int = BEYOND_CACHES
    read_bytes: int = 512 << 20


@dataclass
class Findings:
    threads: int
    isa: str
    read_gb_s: float = 0.0
    read_how: str = ""
    python_us: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def measure(threads: int, plan: Plan, bar: Progress) -> Findings:
    arithmetic: Any = kernels.select(threads=threads)
    found = Findings(threads, arithmetic.name)
    steps = len(plan.contexts) * (len(plan.decodes) * (plan.rounds + 1) + len(plan.chunks) * (plan.chunk_rounds + 1))
    advance = stepper(bar, f"block, {threads} thread{'s' * (threads > 1)}", steps)
    with torch.inference_mode():
        found.python_us = round(border_us(plan.rounds), 2)
        bandwidth = ReadBandwidth(arithmetic, threads, plan.read_bytes)
        found.read_how = bandwidth.how
        blocks = walked(arithmetic, plan)
        reads: list[float] = []
        for context in plan.contexts:
            for rows in (*plan.decodes, *plan.chunks):
                row, read = _one(arithmetic, plan, blocks, bandwidth, rows, context, advance)
                row["python_share"] = round(found.python_us / row["us"], 4)
                found.rows.append(row)
                reads.append(read)
    found.read_gb_s = round(bandwidth.nbytes / sorted(reads)[len(reads) // 2] / 1e9, 2)
    return found


def border_us(rounds: int) -> float:
    """Microseconds of a call that has next to nothing to compute. One thread: waking others is not Python's."""
    arithmetic: Any = kernels.select(threads=1)
    block, batch = random_block(arithmetic, BORDER), random_batch(BORDER, 1, 1, 0)
    calls = 100

    def run() -> None:
        for _ in range(calls):
            _call(arithmetic, block, BORDER, batch)

    return take_turns({"border": timed(run)}, rounds).median("border") / calls * 1e6


def walked(arithmetic: Any, plan: Plan) -> list[BlockOf]:
    """Blocks that no cache holds together."""
    first = random_block(arithmetic, plan.shape)
    return [first, *(clone_block(first) for _ in range(plan.beyond // _block_bytes(first)))]


def same_bits(shape: LlamaShape, seats: int, count: int, context: int, names: tuple[str, ...]) -> dict[str, str]:
    """By implementation that runs here: a digest of a Block's output and of its Seats' Pages afterwards."""
    digests: dict[str, str] = {}
    for name in names:
        try:
            arithmetic: Any = kernels.select(name, threads=1)
        except UsageError:
            continue
        batch = random_batch(shape, seats, count, context)
        with torch.inference_mode():
            y = _call(arithmetic, random_block(arithmetic, shape), shape, batch)
        digests[name] = _digest(y, batch.k_pages, batch.v_pages)
    return digests


def check_bits(plan: Plan) -> list[dict[str, Any]]:
    checked: list[dict[str, Any]] = []
    for rows in (*plan.decodes, *plan.chunks[:1]):
        names = (*NATIVE, "reference") if rows <= REFERENCE_ROWS else NATIVE
        seats, count = (rows, 1) if rows in plan.decodes else (1, rows)
        digests = same_bits(plan.shape, seats, count, plan.contexts[0], names)
        checked.append({"rows": rows, "implementations": list(digests), "equal": len(set(digests.values())) == 1})
    return checked


def _one(
    arithmetic: Any,
    plan: Plan,
    blocks: list[BlockOf],
    bandwidth: ReadBandwidth,
    rows: int,
    context: int,
    advance: Callable[[], object],
) -> tuple[dict[str, Any], float]:
    """One line of the table, and the seconds of a pass over the bandwidth's buffer in the same minute."""
    shape, decode = plan.shape, rows in plan.decodes
    seats, count = (rows, 1) if decode else (1, rows)
    # Every Block has Pages of its own: a model's keys do not stay in a cache either.
    batches = [random_batch(shape, seats, count, context) for _ in blocks]

    def walk() -> None:
        for block, batch in zip(blocks, batches, strict=True):
            _call(arithmetic, block, shape, batch)

    contestants: dict[str, Seconds] = {"read": bandwidth.seconds, "block": timed(walk)}
    taken = take_turns(contestants, plan.rounds if decode else plan.chunk_rounds, advance)
    seconds = taken.median("block") / len(blocks)
    touched = _block_bytes(blocks[0]) + seats * context * shape.kv_bytes_per_token
    share = taken.speed("block", "read") * touched * len(blocks) / bandwidth.nbytes
    row = {
        "rows": rows,
        "context": context,
        "us": round(seconds * 1e6, 1),
        "mb": round(touched / 1e6, 2),
        "gb_s": round(touched / seconds / 1e9, 2),
        "of_read": round(share, 4),
        "gflop_s": round(2.0 * rows * shape.block_weights / seconds / 1e9, 1),
    }
    return row, taken.median("read")


def _call(arithmetic: Any, block: BlockOf, shape: LlamaShape, b: Batch) -> Tensor:
    return arithmetic.block(b.x, block, shape.block_shape, b.rows, b.cos, b.sin, b.k_pages, b.v_pages)


def _block_bytes(block: BlockOf) -> int:
    return sum(map(nbytes, block.matrices))


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def bars(found: Findings) -> list[Bar]:
    at = f"{found.threads} thread{'s' * (found.threads > 1)}"
    single = [row for row in found.rows if row["rows"] == 1]
    return [
        *(Bar(f"1 row, context {row['context']}, {at}: of the read bandwidth", row["of_read"], 0.85) for row in single),
        Bar(f"1 row, {at}: Python's share", max(row["python_share"] for row in single), 0.05, most=True),
    ]


def show(found: Findings) -> None:
    title = (
        f"{found.isa}, {found.threads} thread(s); plain reading ({found.read_how}): {found.read_gb_s:.1f} GB/s; "
        f"Python and the border: {found.python_us:.1f} µs a call"
    )
    table = Table("rows", "context", "µs a Block", "MB", "GB/s", "of reading", "GFLOP/s", "Python", title=title)
    for row in found.rows:
        table.add_row(
            str(row["rows"]), str(row["context"]), f"{row['us']:.0f}", f"{row['mb']:.1f}", f"{row['gb_s']:.1f}",
            f"{row['of_read']:.2f}", f"{row['gflop_s']:.0f}", f"{100 * row['python_share']:.1f} %",
        )  # fmt: skip
    console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="A whole Block: time, Python's share, bits.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="a third of the rounds")
    args = parser.parse_args()
    plan = Plan(rounds=5, chunk_rounds=2) if args.quick else Plan()
    with progress() as bar:
        found = [measure(threads, plan, bar) for threads in args.threads]
    for findings in found:
        show(findings)
    bits = check_bits(plan)
    for check in bits:
        says = "equal, byte for byte" if check["equal"] else "DIFFERENT"
        console().print(f"{check['rows']} rows through {', '.join(check['implementations'])}: {says}")
    result = {"rounds": plan.rounds, "threads": [vars(findings) for findings in found], "bits": bits}
    conclude("block", [bar for findings in found for bar in bars(findings)], result)
    if not all(check["equal"] for check in bits):
        sys.exit("implementations differ: run the tests of kernels")


if __name__ == "__main__":
    main()
