"""What does a Hop cost beyond its arithmetic and the wire?

One Session on loopback through H Hops, one thread each, the sample model. Of every decoding step the client's clock
gives the length and the Hops' own clocks the arithmetic. The wire is measured in the same run: a gRPC message of the
bytes of one position, there and back to a process that does nothing else; half of that is a way.

    overhead of a Hop = (step - arithmetic of all Hops - ways x half an echo) / H

with 2 H ways in a star, H + 1 in a chain and H in a ring. What is left is Shoal's own: queues, books, Frames made and
read, Python. Bars: median at most 1 ms, 99th percentile at most 3 ms, for the shape that a client takes by itself.

As a check that trusts nobody's clock but the client's, the same Session goes through one Hop as well: what every
further Hop adds to the median step, the arithmetic being the same in all, is (step of H - step of 1) / (H - 1).

    python -m benchmarks.hop [--hops 3] [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmarks.kit.driving import (
    COMMON,
    SAMPLE,
    Run,
    Step,
    arguments,
    generate,
    num_blocks,
    random_prompt,
    spans,
    traced_steps,
    vocabulary,
)
from benchmarks.kit.echo import Echo
from benchmarks.kit.figures import percentile, percentiles, trips
from benchmarks.kit.report import Bar, conclude, console
from client import AsyncClient, ClientConfig
from client.config import SHAPES
from model.config import read_config
from peer.local import LocalSwarm

TARGETS_S = {50: 0.001, 99: 0.003}


@dataclass(frozen=True)
class Plan:
    hops: int = 3
    rounds: int = 5
    tokens: int = 200
    echoes: int = 200
    prompt: int = 16


def overheads(steps: list[Step], echo_s: float, shape: str, hops: int) -> list[float]:
    """Seconds a Hop, of every step."""
    return [(step.total - step.compute - trips(shape, hops) * echo_s / 2) / hops for step in steps]


def summary(plan: Plan, shape: str, through: list[Run], alone: list[Run], echo_s: float) -> dict[str, Any]:
    steps = [step for run in through for step in traced_steps(run.result)]
    gaps = [gap for run in through for gap in run.arrivals.gaps()]
    single = statistics.median(gap for run in alone for gap in run.arrivals.gaps())
    row: dict[str, Any] = {
        "step_ms": percentiles(gaps, 50, 99, scale=1e3),
        "step_of_one_hop_ms": round(single * 1e3, 4),
        "further_hop_ms": round((percentile(gaps, 50) - single) / max(plan.hops - 1, 1) * 1e3, 4),
    }
    if steps:
        row["overhead_ms"] = percentiles(overheads(steps, echo_s, shape, plan.hops), 50, 99, scale=1e3)
        row["queue_ms"] = percentiles((step.queue / plan.hops for step in steps), 50, 99, scale=1e3)
        row["compute_ms"] = round(statistics.median(step.compute for step in steps) * 1e3, 4)
    return row


async def contest(plan: Plan, many: LocalSwarm, one: LocalSwarm) -> dict[str, Any]:
    prompt = random_prompt(plan.prompt, vocabulary(SAMPLE), "hop")
    row_bytes = read_config(SAMPLE).hidden_size * 4
    through: dict[str, list[Run]] = {shape: [] for shape in SHAPES}
    alone: dict[str, list[Run]] = {shape: [] for shape in SHAPES}
    echoes: list[float] = []
    async with Echo(row_bytes) as echo:
        for shape in SHAPES:
            config = ClientConfig(shape=shape, trace=True)
            async with AsyncClient(many.join, config=config) as far, AsyncClient(one.join, config=config) as near:
                for index in range(plan.rounds + 1):
                    first = await generate(far, prompt, plan.tokens)
                    second = await generate(near, prompt, plan.tokens)
                    bare = [await echo.round_trip_s() for _ in range(plan.echoes)]
                    if index:  # the first round warms up
                        through[shape].append(first)
                        alone[shape].append(second)
                        echoes += bare
    echo_s = statistics.median(echoes)
    found = {shape: summary(plan, shape, through[shape], alone[shape], echo_s) for shape in SHAPES}
    return {"row_bytes": row_bytes, "echo_ms": percentiles(echoes, 50, 99, scale=1e3), "shapes": found}


def measure(plan: Plan) -> dict[str, Any]:
    blocks = num_blocks(SAMPLE)
    with LocalSwarm(*COMMON) as many, LocalSwarm(*COMMON) as one:
        many.start(spans(blocks, plan.hops))
        one.start(spans(blocks, 1))
        return asyncio.run(contest(plan, many, one))


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    """Of the shape that a client prefers: ring before chain before star."""
    shape = next(shape for shape in SHAPES if shape in found["shapes"])
    row = found["shapes"][shape]
    for percent, target_s in TARGETS_S.items():
        if "overhead_ms" in row:
            value = row["overhead_ms"][f"p{percent}"]
            yield Bar(f"a hop's overhead, {shape}, p{percent}, ms", value, target_s * 1e3, most=True)


def show(plan: Plan, found: dict[str, Any]) -> None:
    title = (
        f"{plan.hops} hops; {found['row_bytes']} bytes by bare gRPC: {found['echo_ms']['p50']:.3f} ms there and back"
    )
    columns = ("step p50", "p99", "arithmetic", "overhead a hop p50", "p99", "a further hop")
    table = Table("path", *columns, title=title)
    for shape, row in found["shapes"].items():
        overhead = row.get("overhead_ms", {})
        cells = (
            row["step_ms"]["p50"], row["step_ms"]["p99"], row.get("compute_ms"), overhead.get("p50"),
            overhead.get("p99"), row["further_hop_ms"],
        )  # fmt: skip
        table.add_row(shape, *("" if cell is None else f"{cell:.3f} ms" for cell in cells))
    console().print(table)


def main() -> None:
    parser = arguments("A hop's overhead beyond arithmetic and wire.")
    parser.add_argument("--hops", type=int, default=3)
    args = parser.parse_args()
    plan = Plan(args.hops, rounds=1, tokens=30, echoes=50) if args.quick else Plan(args.hops)
    found = measure(plan)
    show(plan, found)
    judged = list(bars(found))
    ratios = {
        f"of_bar_p{percent}": round(bar.value / bar.bar, 4) for percent, bar in zip(TARGETS_S, judged, strict=False)
    }
    setting = {"hops": plan.hops, "rounds": plan.rounds, "tokens": plan.tokens}
    conclude("hop", judged, {**ratios, **found, **setting})


if __name__ == "__main__":
    main()
