"""What does the HTTP gateway cost beyond the client inside it?

Three real peers with a third of the Blocks each, one thread each, loopback; a gateway process in front of them; this
process asks twice in turns, the same prompts and lengths: through a client of its own (``client.generate``, the
yardstick), and through the gateway as streamed completions over HTTP.

The physics: a token on its way through the gateway is one queue, one JSON text of some 250 bytes, two system calls and
one wake-up of the reader, which costs no arithmetic of the model. What is measured is all of it, reading the stream in
this process included.

- **One stream**: the time between two tokens, its mean over an answer, gateway minus client, median over the rounds.
  Bar: at most 2 ms.
- **16 streams**: tokens a second while all of them decode, gateway by client, median over the rounds. Bar: at least
  0.95. Gateway, peers and this process share the machine's cores, so the processor's time that the gateway takes is
  taken from the peers.
- **First token**: how much later it comes, beside it.

By default TinyLlama-1.1B's shape with random weights, as in ``benchmarks.load``. ``--sample`` takes the small model
that ships, where a token is nearly all overhead: the harder case, for whoever works on the gateway.

    python -m benchmarks.gateway [--streams 16] [--rounds 3] [--sample] [--dir DIR] [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from rich.table import Table

from benchmarks.kit.checkpoint import cache_directory, random_checkpoint
from benchmarks.kit.driving import (  # fmt: skip
    COMMON,
    FIRST_START_S,
    SAMPLE,
    Run,
    arguments,
    generate,
    num_blocks,
    random_prompt,
    spans,
    together,
    vocabulary,
)
from benchmarks.kit.figures import overlap_rate
from benchmarks.kit.gateways import LocalGateway, ask, ask_together, visitor
from benchmarks.kit.processes import cpu_seconds
from benchmarks.kit.report import Bar, conclude, console
from benchmarks.kit.shapes import LLAMA_1B
from client import AsyncClient
from peer.local import LocalSwarm

HOPS = 3
MOST_MS = 2.0
LEAST_OF_CLIENT = 0.95


@dataclass(frozen=True)
class Plan:
    streams: int = 16
    rounds: int = 3
    prompt: int = 16
    tokens: int = 40  # of an answer


def per_token_s(run: Run) -> float:
    """The mean time between two tokens."""
    return (run.times[-1] - run.times[0]) / (len(run.times) - 1)


async def one_stream(client: AsyncClient, http: aiohttp.ClientSession, plan: Plan, vocab: int) -> dict[str, Any]:
    ours: list[Run] = []
    theirs: list[Run] = []
    for index in range(plan.rounds + 1):
        # Two prompts, so that neither finds the Pages of the other; of equal length, so they cost the same.
        direct = await generate(client, random_prompt(plan.prompt, vocab, f"client/{index}"), plan.tokens)
        through = await ask(http, random_prompt(plan.prompt, vocab, f"gateway/{index}"), plan.tokens)
        if index:  # the first round warms up
            ours.append(through)
            theirs.append(direct)
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "client_token_ms": round(statistics.median(map(per_token_s, theirs)) * 1e3, 4),
        "gateway_token_ms": round(statistics.median(map(per_token_s, ours)) * 1e3, 4),
        "overhead_ms": round(statistics.median(per_token_s(a) - per_token_s(b) for a, b in pairs) * 1e3, 4),
        "ttft_overhead_ms": round(statistics.median(a.ttft_s - b.ttft_s for a, b in pairs) * 1e3, 3),
        "client_ttft_ms": round(statistics.median(run.ttft_s for run in theirs) * 1e3, 3),
        "gateway_ttft_ms": round(statistics.median(run.ttft_s for run in ours) * 1e3, 3),
    }


async def many_streams(
    client: AsyncClient, http: aiohttp.ClientSession, plan: Plan, vocab: int, gateway: int
) -> dict[str, Any]:
    """``gateway``: the process whose processor time is counted."""
    ours: list[float] = []
    theirs: list[float] = []
    cpu: list[float] = []
    for index in range(plan.rounds + 1):
        prompts = [
            [random_prompt(plan.prompt, vocab, f"{who}/{index}/{each}") for each in range(plan.streams)]
            for who in ("client", "gateway")
        ]
        direct = await together(client, prompts[0], plan.tokens)
        begun = cpu_seconds(gateway)
        through = await ask_together(http, prompts[1], plan.tokens)
        took = cpu_seconds(gateway) - begun
        if index:
            theirs.append(overlap_rate([run.arrivals for run in direct]))
            ours.append(overlap_rate([run.arrivals for run in through]))
            cpu.append(took / (plan.streams * plan.tokens))
    return {
        "client_tokens_s": round(statistics.median(theirs), 3),
        "gateway_tokens_s": round(statistics.median(ours), 3),
        "of_client": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 4),
        "gateway_cpu_ms_a_token": round(statistics.median(cpu) * 1e3, 4),
    }


async def contest(plan: Plan, model: Path, swarm: LocalSwarm, gateway: LocalGateway) -> dict[str, Any]:
    vocab = vocabulary(model)
    async with AsyncClient(swarm.join) as client, visitor(gateway.url) as http:
        begun = time.perf_counter()
        single = await one_stream(client, http, plan, vocab)
        console().print(f"one stream: {time.perf_counter() - begun:.0f} s")
        many = await many_streams(client, http, plan, vocab, gateway.process.pid)
    return {"model": model.name, "one": single, "many": many}


def measure(plan: Plan, model: Path, cache: Path) -> dict[str, Any]:
    common = (*COMMON, "--model", str(model), "--cache", str(cache))
    with LocalSwarm(*common, timeout_s=FIRST_START_S) as swarm:
        swarm.start(spans(num_blocks(model), HOPS))
        with LocalGateway(swarm.join) as gateway:
            return asyncio.run(contest(plan, model, swarm, gateway))


def bars(plan: Plan, found: dict[str, Any]) -> Iterator[Bar]:
    yield Bar("gateway beyond client, one stream, ms a token", found["one"]["overhead_ms"], MOST_MS, most=True)
    yield Bar(f"{plan.streams} streams, of the client's tokens/s", found["many"]["of_client"], LEAST_OF_CLIENT)


def show(plan: Plan, found: dict[str, Any]) -> None:
    one, many = found["one"], found["many"]
    table = Table(
        "through", "a token, ms", "first token, ms", f"{plan.streams} streams, tokens/s", title=found["model"]
    )
    for who in ("client", "gateway"):
        table.add_row(
            who, f"{one[f'{who}_token_ms']:.3f}", f"{one[f'{who}_ttft_ms']:.1f}", f"{many[f'{who}_tokens_s']:.1f}"
        )
    console().print(table)
    console().print(
        f"overhead of a token {one['overhead_ms']:.3f} ms, of the first {one['ttft_overhead_ms']:.1f} ms; "
        f"{plan.streams} streams {many['of_client']:.3f} of the client; "
        f"the gateway's processor time {many['gateway_cpu_ms_a_token']:.3f} ms a token"
    )


def main() -> None:
    parser = arguments("The gateway's cost beyond its client's.")
    parser.add_argument("--streams", type=int, default=16, help="at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help="that count (default: %(default)s)")
    parser.add_argument("--sample", action="store_true", help="the small model that ships: overhead and little else")
    parser.add_argument("--dir", type=Path, default=cache_directory(), help="for the checkpoint (default: %(default)s)")
    args = parser.parse_args()
    plan = Plan(args.streams, args.rounds)
    if args.quick:
        plan = replace(plan, rounds=1, tokens=32)
    elif args.sample:
        plan = replace(plan, tokens=128)
    small = args.sample or args.quick
    model = SAMPLE if small else random_checkpoint(LLAMA_1B, args.dir)
    found = measure(plan, model, args.dir / "spans")
    show(plan, found)
    ratios = {"of_client": found["many"]["of_client"], "overhead_ms": found["one"]["overhead_ms"]}
    setting = {"hops": HOPS, "streams": plan.streams, "rounds": plan.rounds, "tokens": plan.tokens}
    conclude("gateway", list(bars(plan, found)), {**ratios, **found, **setting})


if __name__ == "__main__":
    main()
