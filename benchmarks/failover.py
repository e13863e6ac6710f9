"""How long does a Session stand still when a Hop is lost, and is the text the same?

The sample model through three Hops, one thread each, every Span served twice. At some moment of a generation with 1,000
tokens of context one Hop is killed (SIGKILL) or frozen (SIGSTOP): the stall is the longest time without a token from
that signal on, whatever was still on its way when it came. Every shape of the path, the first, middle and last Hop,
greedy and sampled in turns; each run has a client of its own, so nothing is known beforehand but what the swarm
announces. The text is compared with that of an undisturbed run, token by token.

The physics: what the lost Hop held has to be computed again by its replacement, 8 of 24 Blocks at 1,000 positions, some
0.15 s with one thread; a frozen peer is only noticed when the client's deadlines have passed: silence, then a question
without an answer.

    python -m benchmarks.failover [--runs 5] [--shapes star chain ring] [--seed 0] [--quick]
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.kit.driving import (
    COMMON,
    SAMPLE,
    Run,
    Slot,
    arguments,
    generate,
    num_blocks,
    random_prompt,
    spans,
    vocabulary,
)
from benchmarks.kit.figures import first_difference, percentiles, stall_s
from benchmarks.kit.report import Bar, conclude, console
from client import AsyncClient, ClientConfig
from client.config import SHAPES, PathShape
from peer.local import LocalSwarm

HOPS = ("first", "middle", "last")
SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}
BARS_S = {"killed": 1.0, "frozen": 3.0}
LATEST_S = 0.03  # the signal comes up to so long after a token: at any moment of a step
SAMPLINGS: tuple[dict[str, Any], ...] = ({}, {"temperature": 0.8, "top_p": 0.95, "seed": 4})


@dataclass(frozen=True)
class Plan:
    shapes: tuple[PathShape, ...]
    hops: tuple[str, ...] = HOPS
    runs: int = 5
    context: int = 1000
    tokens: int = 64
    earliest: int = 8  # tokens before the signal …
    latest: int = 32  # … and at most so many


@dataclass(frozen=True)
class Case:
    shape: str
    hop: str
    how: str
    index: int

    @property
    def sampling(self) -> dict[str, Any]:
        return SAMPLINGS[self.index % len(SAMPLINGS)]


@dataclass(frozen=True)
class Outcome:
    case: Case
    stall_s: float
    parts_at: int | None  # from the undisturbed text
    failovers: int


class Blow:
    """The signal that hits one Hop of a Session's Route, some time after one of its tokens."""

    def __init__(self, slots: Sequence[Slot], case: Case, after: int, delay_s: float):
        self._slots = {slot.peer.peer_id: slot for slot in slots}
        self._case, self._after, self._delay_s = case, after, delay_s
        self.struck_at: float | None = None
        self.victim: Slot | None = None

    def heard(self, run: Run, piece: Any) -> None:
        if len(run.times) == self._after:
            leg = piece.route[HOPS.index(self._case.hop)]
            self.victim = self._slots[leg["peer"]]
            asyncio.get_running_loop().call_later(self._delay_s, self._strike)

    def _strike(self) -> None:
        assert self.victim is not None
        os.kill(self.victim.peer.process.pid, SIGNALS[self._case.how])
        self.struck_at = time.perf_counter()

    def stall_s(self, run: Run) -> float:
        """Raises RuntimeError where the Session was over before the signal."""
        if self.struck_at is None or run.times[-1] < self.struck_at:
            raise RuntimeError("the text was over before the signal came; take more tokens")
        return stall_s(run.times, self.struck_at)

    async def undo(self) -> None:
        if self.victim is None:
            return
        if self._case.how == "frozen":
            self.victim.peer.thaw()
        else:
            await self.victim.restart()


async def strike(
    swarm: LocalSwarm, slots: Sequence[Slot], config: ClientConfig, plan: Plan, case: Case, prompt: list[int],
    oracle: Sequence[int], drawn: random.Random,
) -> Outcome:  # fmt: skip
    blow = Blow(slots, case, drawn.randint(plan.earliest, plan.latest), drawn.uniform(0.0, LATEST_S))
    try:
        async with AsyncClient(swarm.join, config=config) as client:
            run = await generate(client, prompt, plan.tokens, blow.heard, **case.sampling)
            stall_s = blow.stall_s(run)
    finally:
        await blow.undo()
    failovers = run.result.failovers if run.result is not None else 0
    return Outcome(case, stall_s, first_difference(run.token_ids, oracle), failovers)


async def contest(plan: Plan, swarm: LocalSwarm, slots: Sequence[Slot], seed: int) -> list[Outcome]:
    prompt = random_prompt(plan.context, vocabulary(SAMPLE), "failover")
    async with AsyncClient(swarm.join) as calm:
        oracles = [(await generate(calm, prompt, plan.tokens, **each)).token_ids for each in SAMPLINGS]
    drawn = random.Random(seed)
    outcomes: list[Outcome] = []
    for index, shape, hop, how in itertools.product(range(plan.runs), plan.shapes, plan.hops, SIGNALS):
        case = Case(shape, hop, how, index)
        config = ClientConfig(shape=shape)
        oracle = oracles[index % len(oracles)]
        outcome = await strike(swarm, slots, config, plan, case, prompt, oracle, drawn)
        outcomes.append(outcome)
        same = "" if outcome.parts_at is None else f", another text from token {outcome.parts_at} on"
        console().print(f"{shape}, {hop} hop {how}: {outcome.stall_s:.3f} s{same}")
    return outcomes


def measure(plan: Plan, seed: int) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as home, LocalSwarm(*COMMON) as swarm:
        places = [*spans(num_blocks(SAMPLE), len(HOPS))] * 2
        slots = [Slot(swarm, span, Path(home) / str(index)) for index, span in enumerate(places)]
        return asyncio.run(contest(plan, swarm, slots, seed))


def stalls(outcomes: list[Outcome], how: str, shape: str | None = None, hop: str | None = None) -> list[float]:
    return [
        each.stall_s
        for each in outcomes
        if each.case.how == how and shape in (None, each.case.shape) and hop in (None, each.case.hop)
    ]


def summary(plan: Plan, outcomes: list[Outcome]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "texts_that_differ": sum(each.parts_at is not None for each in outcomes),
        "runs_without_failover": sum(not each.failovers for each in outcomes),
    }
    for how in SIGNALS:
        found[how] = percentiles(stalls(outcomes, how), 50, 95)
        found[f"{how}_by"] = {
            f"{shape}, {hop}": percentiles(stalls(outcomes, how, shape, hop), 50, 95)
            for shape, hop in itertools.product(plan.shapes, plan.hops)
        }
    return found


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    for how, bar_s in BARS_S.items():
        yield Bar(f"stall, a hop {how}, p95, s", found[how]["p95"], bar_s, most=True)
    yield Bar("texts that differ from the undisturbed", found["texts_that_differ"], 0, most=True)


def show(plan: Plan, found: dict[str, Any]) -> None:
    columns = [f"{how} {figure}, s" for how in SIGNALS for figure in ("p50", "p95")]
    table = Table(
        "path, hop", *columns, title=f"longest time without a token after the signal, {plan.context} tokens of context"
    )
    for name in found["killed_by"]:
        rows = [found[f"{how}_by"][name] for how in SIGNALS]
        table.add_row(name, *(f"{row[figure]:.3f}" for row in rows for figure in ("p50", "p95")))
    table.add_row("all", *(f"{found[how][figure]:.3f}" for how in SIGNALS for figure in ("p50", "p95")))
    console().print(table)


def main() -> None:
    parser = arguments("The stall when a hop is lost.")
    parser.add_argument("--runs", type=int, default=5, help="of every case (default: %(default)s)")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shapes = args.shapes
    plan = Plan(shapes, ("middle",), runs=1) if args.quick else Plan(shapes, runs=args.runs)
    found = summary(plan, measure(plan, args.seed))
    show(plan, found)
    ratios = {f"{how}_p95_of_bar": round(found[how]["p95"] / bar_s, 4) for how, bar_s in BARS_S.items()}
    setting = {"runs": plan.runs, "context": plan.context, "seed": args.seed}
    conclude("failover", list(bars(found)), {**ratios, **found, **setting})


if __name__ == "__main__":
    main()
