"""How long does a long prompt take to its first token: through two peers at once, and when it was seen before?

TinyLlama-1.1B's shape with random weights, loopback. A prompt of 1,000 tokens, one thread a peer:

- **Pipeline**: two peers with half of the Blocks each, so that one works on a Chunk while the other works on the Chunk
  before it, against one peer with all Blocks, which is what two without overlap come to: the same arithmetic, one
  thread at a time. The physics: the last Hop begins when its first Chunk has passed the others, and ends a Chunk after
  them, so what a pipeline can gain depends on the Chunks: 1.59x with 256 tokens, which is less than the bar asks for,
  1.77x with 128, 1.88x with 64. Every prompt is new, so none is found again.
- **Prefix**: a system prompt of 1,000 tokens with a short question, then the same with another question. What is left
  to compute is the question, and what does not fill a Page: at most a tenth of the first time.

    python -m benchmarks.prefill [--shape ring] [--chunk 128] [--dir DIR] [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.kit.checkpoint import cache_directory, random_checkpoint
from benchmarks.kit.driving import (
    SAMPLE,
    Run,
    arguments,
    generate,
    pair_and_single,
    random_prompt,
    vocabulary,
)
from benchmarks.kit.figures import pipeline_gain
from benchmarks.kit.report import Bar, conclude, console
from benchmarks.kit.shapes import LLAMA_1B
from client import AsyncClient, ClientConfig
from peer.local import LocalSwarm

PROMPT, QUESTION = 1000, 16  # tokens
KV_TOKENS = 8192  # for what is kept of earlier prompts, too


@dataclass(frozen=True)
class Plan:
    rounds: int = 5
    prompt: int = PROMPT


async def pipeline(two: AsyncClient, one: AsyncClient, plan: Plan, vocab: int) -> dict[str, list[Run]]:
    """The same new prompt to both, in turns; the first round warms up."""
    taken: dict[str, list[Run]] = {"two": [], "one": []}
    for index in range(plan.rounds + 1):
        prompt = random_prompt(plan.prompt, vocab, f"prefill/{index}")
        for name, client in (("two", two), ("one", one)):
            run = await generate(client, prompt, 1)
            if index:
                taken[name].append(run)
    return taken


async def prefix(client: AsyncClient, plan: Plan, vocab: int) -> dict[str, list[Run]]:
    """Each round another system prompt: new, then again with another question."""
    taken: dict[str, list[Run]] = {"first": [], "again": []}
    for index in range(plan.rounds):
        system = random_prompt(plan.prompt, vocab, f"system/{index}")
        for name in taken:
            question = random_prompt(QUESTION, vocab, f"question/{index}/{name}")
            taken[name].append(await generate(client, system + question, 1))
    return taken


def median_s(runs: list[Run]) -> float:
    return statistics.median(run.ttft_s for run in runs)


def gain(slow: list[Run], fast: list[Run]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(a.ttft_s / b.ttft_s for a, b in zip(slow, fast, strict=True))


async def contest(plan: Plan, model: Path, pair: LocalSwarm, alone: LocalSwarm, config: Any) -> dict[str, Any]:
    vocab = vocabulary(model)
    async with AsyncClient(pair.join, config=config) as two, AsyncClient(alone.join, config=config) as one:
        piped = await pipeline(two, one, plan, vocab)
        kept = await prefix(two, plan, vocab)
    cached = [run.result.cached_tokens for run in kept["again"] if run.result is not None]
    return {
        "pipeline_times": round(gain(piped["one"], piped["two"]), 4),
        "again_of_first": round(1 / gain(kept["first"], kept["again"]), 4),
        "two_peers_s": round(median_s(piped["two"]), 4),
        "one_peer_s": round(median_s(piped["one"]), 4),
        "first_s": round(median_s(kept["first"]), 4),
        "again_s": round(median_s(kept["again"]), 4),
        "cached_tokens": int(statistics.median(cached)),
    }


def measure(plan: Plan, model: Path, cache: Path, config: Any) -> dict[str, Any]:
    with pair_and_single(model, cache, KV_TOKENS) as (pair, alone):
        return asyncio.run(contest(plan, model, pair, alone, config))


def bars(result: dict[str, Any]) -> Iterator[Bar]:
    yield Bar("two peers in a pipeline, times one", result["pipeline_times"], 1.6)
    yield Bar("the same prompt again, of its first time", result["again_of_first"], 0.1, most=True)


def show(plan: Plan, chunk: int, result: dict[str, Any]) -> None:
    table = Table("prompt", "first token, ms", "ratio", title=f"{plan.prompt} tokens, chunks of {chunk}")
    ideal = pipeline_gain(plan.prompt, chunk, 2)
    table.add_row("one peer", f"{result['one_peer_s'] * 1e3:.0f}")
    table.add_row("two peers", f"{result['two_peers_s'] * 1e3:.0f}", f"{result['pipeline_times']:.2f}× of {ideal:.2f}")
    table.add_row("a system prompt", f"{result['first_s'] * 1e3:.0f}")
    table.add_row("the same again", f"{result['again_s'] * 1e3:.0f}", f"{100 * result['again_of_first']:.1f} %")
    console().print(table)
    console().print(f"found again: {result['cached_tokens']} of {plan.prompt + QUESTION} tokens")


def main() -> None:
    parser = arguments("Time to first token of a long prompt.")
    parser.add_argument("--shape", default=None, help="of the path (default: the best there is)")
    parser.add_argument("--chunk", type=int, default=None, help="tokens (default: the client's own)")
    parser.add_argument("--dir", type=Path, default=cache_directory(), help="for the checkpoint (default: %(default)s)")
    args = parser.parse_args()
    plan = Plan(rounds=1) if args.quick else Plan()
    model = SAMPLE if args.quick else random_checkpoint(LLAMA_1B, args.dir)
    config = ClientConfig(shape=args.shape, **({} if args.chunk is None else {"prefill_chunk": args.chunk}))
    result = measure(plan, model, args.dir / "spans", config)
    chunk = config.prefill_chunk
    show(plan, chunk, result)
    setting = {"model": model.name, "shape": args.shape, "prompt": plan.prompt, "chunk": chunk, "rounds": plan.rounds}
    ideal = round(pipeline_gain(plan.prompt, chunk, 2), 4)
    conclude("prefill", list(bars(result)), {**result, "ideal_times": ideal, **setting})


if __name__ == "__main__":
    main()
