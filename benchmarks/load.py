"""How much more do many Sessions get out of two peers than one does, and what does a long prompt do to them?

TinyLlama-1.1B's shape with random weights, half of the Blocks on each of two peers, one thread each, loopback; beside
them one peer that has all Blocks and one thread. The same client process drives all.

The physics: a step reads every weight of a Hop once, whatever the number of Sessions in its Batch, until the arithmetic
of the Batch takes longer than the reading (some 4 rows on such a machine). One Session keeps one of the two peers busy
at a time, and so at best does what one process with one thread does: that is measured in turns with it. Two or more
Sessions can keep both busy at once (2x), and more than that share the reading of the weights.

- **Sessions**: tokens a second of 1, 4, 8, 16, 32 together, while all of them decode (and over all, prompts included);
  the time between two tokens of a Session; the peers' peak resident memory at the end.
- **A long prompt**: four Sessions decode, then a prompt arrives that takes all the KV cache that is left. The time
  between their tokens from then until that prompt's first token, against before: at most twice at the 99th percentile.
  How much longer than alone the prompt takes is shown beside it: to let it starve would be easy.

The anchors (anchors.md, the same kind of machine): Petals 4.1 tokens/s and 6.9 with four Sessions, llama.cpp's RPC 17.3
and 27.4, llama.cpp in one process 54.3 with four.

    python -m benchmarks.load [--sessions 1 4 8 16 32] [--shape ring] [--dir DIR] [--quick]
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.kit.checkpoint import cache_directory, random_checkpoint
from benchmarks.kit.driving import (  # fmt: skip
    SAMPLE,
    Run,
    arguments,
    generate,
    pair_and_single,
    random_prompt,
    together,
    vocabulary,
)
from benchmarks.kit.figures import overlap, overlap_rate, percentile, percentiles
from benchmarks.kit.processes import peak_bytes
from benchmarks.kit.report import Bar, conclude, console
from benchmarks.kit.shapes import LLAMA_1B
from client import AsyncClient, ClientConfig
from kernels.types import PAGE_SIZE
from peer.local import LocalSwarm

TIMES_ONE = {4: 3.2, 8: 5.0, 16: 8.0}  # bars, by Sessions
ANCHORS = {1: {"Petals": 4.1, "llama.cpp RPC": 17.3}, 4: {"Petals": 6.9, "llama.cpp RPC": 27.4, "llama.cpp": 54.3}}
DECODING = 4  # Sessions, when the long prompt comes


@dataclass(frozen=True)
class Plan:
    sessions: tuple[int, ...] = (1, 4, 8, 16, 32)
    rounds: int = 3
    prompt: int = 16
    tokens: int = 64
    kv_tokens: int = 6144
    reserved: int = 1024  # of the KV cache, by each of the Sessions that the long prompt meets
    calm_s: float = 8.0  # before the long prompt comes

    @property
    def long_prompt(self) -> int:
        """Fills the KV cache, with one token for its answer; a Page a Session is left for what a peer adds itself."""
        return self.kv_tokens - DECODING * self.reserved - (DECODING + 1) * PAGE_SIZE - 1


async def one_round(client: AsyncClient, plan: Plan, vocab: int, sessions: int, index: int) -> list[Run]:
    prompts = [random_prompt(plan.prompt, vocab, f"load/{sessions}/{index}/{each}") for each in range(sessions)]
    return await together(client, prompts, plan.tokens)


def summary(rounds: list[list[Run]]) -> dict[str, Any]:
    """Of one number of Sessions."""
    gaps: list[float] = []
    overall: list[float] = []
    for runs in rounds:
        arrivals = [run.arrivals for run in runs]
        begin, end = overlap(arrivals)
        gaps += [gap for each in arrivals for gap in each.gaps(begin, end)]
        last = max(run.times[-1] for run in runs)
        overall.append(sum(len(run.times) for run in runs) / (last - min(run.begun for run in runs)))
    return {
        "tokens_s": round(statistics.median(overlap_rate([run.arrivals for run in runs]) for runs in rounds), 3),
        "with_prompts_tokens_s": round(statistics.median(overall), 3),
        "gap_ms": percentiles(gaps, 50, 95, scale=1e3),
        "ttft_ms": round(statistics.median(run.ttft_s for runs in rounds for run in runs) * 1e3, 1),
    }


async def sessions(two: AsyncClient, one: AsyncClient, plan: Plan, vocab: int) -> dict[str, Any]:
    """A round is every number of Sessions on the two peers, and one Session on the one peer."""
    await one_round(two, plan, vocab, 2, -1)  # warm up
    await one_round(one, plan, vocab, 1, -1)
    taken: dict[int, list[list[Run]]] = {number: [] for number in plan.sessions}
    single: list[list[Run]] = []
    for index in range(plan.rounds):
        single.append(await one_round(one, plan, vocab, 1, index))
        for number in plan.sessions:
            taken[number].append(await one_round(two, plan, vocab, number, index))
            console().print(f"round {index + 1}: {number} sessions")
    return {
        "sessions": {str(number): summary(rounds) for number, rounds in taken.items()},
        "one_process": summary(single),
    }


async def long_prompt(client: AsyncClient, plan: Plan, vocab: int) -> dict[str, Any]:
    """Gaps of the Sessions that decode, before and while the long prompt is taken in."""
    running: dict[int, Run] = {}
    over: list[int] = []  # numbers of those that came to their end
    resumed = asyncio.Event()
    after = -math.inf  # what all that go on are to have a token after

    def look() -> None:
        going = [run for number, run in running.items() if number not in over]
        if len(running) == DECODING and all(run.times[-1] > after for run in going):
            resumed.set()

    async def decode(number: int) -> None:
        def heard(run: Run, piece: object) -> None:
            running[number] = run
            look()

        prompt = random_prompt(plan.prompt, vocab, f"decoding/{number}")
        await generate(client, prompt, plan.reserved - plan.prompt, heard)
        over.append(number)
        look()

    alone = await generate(client, random_prompt(plan.long_prompt, vocab, "long, alone"), 1)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(decode(number)) for number in range(DECODING)]
        await resumed.wait()
        calm = time.perf_counter()
        await asyncio.sleep(plan.calm_s)
        came = time.perf_counter()
        taken = await generate(client, random_prompt(plan.long_prompt, vocab, "long"), 1)
        after, early = taken.times[0], len(over)
        resumed.clear()
        look()
        await resumed.wait()
        for task in tasks:
            task.cancel()
    arrivals = [run.arrivals for run in running.values()]
    before = [gap for each in arrivals for gap in each.gaps(calm, came)]
    during = [gap for each in arrivals for gap in each.gaps_across(came, after)]
    return {
        "p99_times": round(percentile(during, 99) / percentile(before, 99), 4),
        "prompt_tokens": plan.long_prompt,
        "over_before_it": early,  # Sessions that were not there to be disturbed all the time
        "ttft_s": round(taken.ttft_s, 3),
        "ttft_times_alone": round(taken.ttft_s / alone.ttft_s, 3),
        "before_ms": percentiles(before, 50, 99, scale=1e3),
        "during_ms": percentiles(during, 50, 99, scale=1e3),
    }


async def contest(plan: Plan, model: Path, pair: LocalSwarm, alone: LocalSwarm, config: Any) -> dict[str, Any]:
    vocab = vocabulary(model)
    async with AsyncClient(pair.join, config=config) as two, AsyncClient(alone.join, config=config) as one:
        result = {"model": model.name, **await sessions(two, one, plan, vocab)}
        result["peak_bytes"] = [peak_bytes(peer.process.pid) for peer in pair.peers]
        result["long_prompt"] = await long_prompt(two, plan, vocab)
    return result


def measure(plan: Plan, model: Path, cache: Path, config: Any) -> dict[str, Any]:
    with pair_and_single(model, cache, plan.kv_tokens) as (pair, alone):
        return asyncio.run(contest(plan, model, pair, alone, config))


def ratios(result: dict[str, Any]) -> dict[str, float]:
    rates = {int(number): row["tokens_s"] for number, row in result["sessions"].items()}
    found = {f"{number}_times_one": round(rate / rates[1], 4) for number, rate in rates.items() if number > 1}
    found["two_peers_of_one_process"] = round(rates[1] / result["one_process"]["tokens_s"], 4)
    found["long_prompt_p99_times"] = result["long_prompt"]["p99_times"]
    for number, rivals in ANCHORS.items():
        if number in rates and result["model"] != SAMPLE.name:
            found |= {f"{number}_of_{name}": round(rates[number] / rate, 3) for name, rate in rivals.items()}
    return found


def bars(result: dict[str, Any], figures: dict[str, float]) -> Iterator[Bar]:
    for number, bar in TIMES_ONE.items():
        if f"{number}_times_one" in figures:
            yield Bar(f"{number} sessions, times one", figures[f"{number}_times_one"], bar)
    yield Bar("one session: two peers, of one process", figures["two_peers_of_one_process"], 0.95)
    if "4" in result["sessions"] and result["model"] != SAMPLE.name:
        yield Bar("four sessions, tokens/s", result["sessions"]["4"]["tokens_s"], 65.0)
    yield Bar("a long prompt: p99 between tokens, times before", figures["long_prompt_p99_times"], 2.0, most=True)


def show(plan: Plan, result: dict[str, Any]) -> None:
    table = Table("sessions", "tokens/s", "with prompts", "gap p50, ms", "p95", "first token, ms")
    rows = {**result["sessions"], "1, one process": result["one_process"]}
    for name, row in rows.items():
        table.add_row(
            name, f"{row['tokens_s']:.1f}", f"{row['with_prompts_tokens_s']:.1f}", f"{row['gap_ms']['p50']:.1f}",
            f"{row['gap_ms']['p95']:.1f}", f"{row['ttft_ms']:.0f}",
        )  # fmt: skip
    console().print(table)
    console().print(f"peers' peak memory, MB: {', '.join(f'{size / 1e6:.0f}' for size in result['peak_bytes'])}")
    row = result["long_prompt"]
    console().print(
        f"beside a prompt of {row['prompt_tokens']} tokens ({row['ttft_s']:.1f} s to its first token, "
        f"{row['ttft_times_alone']:.1f} times what it takes alone): "
        f"p99 between tokens {row['during_ms']['p99']:.0f} ms, {row['before_ms']['p99']:.0f} before"
    )


def main() -> None:
    parser = arguments("Many sessions on two peers.")
    parser.add_argument("--sessions", type=int, nargs="+", default=None)
    parser.add_argument("--shape", default=None, help="of the path (default: the best there is)")
    parser.add_argument("--dir", type=Path, default=cache_directory(), help="for the checkpoint (default: %(default)s)")
    args = parser.parse_args()
    if args.quick:  # the sample model: small, and all of it overhead
        plan = Plan((1, 4), rounds=1, tokens=32, kv_tokens=9216, reserved=2016, calm_s=0.5)
        model, cache = SAMPLE, args.dir / "spans"
    else:
        plan, model, cache = Plan(), random_checkpoint(LLAMA_1B, args.dir), args.dir / "spans"
    if args.sessions:
        plan = Plan(**{**vars(plan), "sessions": tuple(sorted({1, *args.sessions}))})
    result = measure(plan, model, cache, ClientConfig(shape=args.shape))
    show(plan, result)
    figures = ratios(result)
    setting = {"shape": args.shape, "rounds": plan.rounds}
    conclude("load", list(bars(result, figures)), {**figures, **result, **setting})


if __name__ == "__main__":
    main()
