"""How near does a swarm across oceans come to the speed of its wires? Star, chain, ring, and ring with drafts.

The client is 75 ms away from every peer, one way; the peers are 5 ms apart; 4 Hops, one thread each; the sample model,
or with ``--large`` TinyLlama-1.1B's shape with random weights (ring and chain alone: its text is no use for drafts).
Every peer stands behind two proxies (``kit/proxy.py``), one for its like and one for the client, in a process of their
own. What a proxy itself adds to a way is measured first, and its wire is made so much shorter.

The physics: from one token to the next a star needs 2 H ways of 75 ms, a chain two of them and H - 1 of 5 ms, a ring H
of 5 ms, wherever the client is; the Hops' arithmetic comes on top, by their own clocks. That is the floor, and no
Session without drafts is faster. With drafts several tokens share a step: how many is the text's affair, and the same
code-like prompt is used throughout. The first token takes one round trip to open the Seats, then the way of a star or a
chain.

    python -m benchmarks.wan [--hops 4] [--client-ms 75] [--peers-ms 5] [--large] [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.kit.checkpoint import cache_directory, random_checkpoint
from benchmarks.kit.driving import (  # fmt: skip
    COMMON,
    FIRST_START_S,
    SAMPLE,
    Prompt,
    Run,
    arguments,
    generate,
    num_blocks,
    random_prompt,
    spans,
    traced_steps,
    vocabulary,
)
from benchmarks.kit.figures import Distances
from benchmarks.kit.proxies import Plugs, Proxies, excess_s
from benchmarks.kit.proxy import Wire
from benchmarks.kit.report import Bar, conclude, console
from benchmarks.kit.shapes import LLAMA_1B
from client import AsyncClient, ClientConfig
from client.config import SHAPES, PathShape
from peer.local import LocalSwarm

NAMES = ("name", "size", "path", "mode")
PROMPT = "class File:\n" + "".join(f"    def get_{name}(self):\n        return self.{name}\n\n" for name in NAMES)
DRAFTS = "ring, drafts"


@dataclass(frozen=True)
class Plan:
    distances: Distances
    rounds: int = 5
    warm_tokens: int = 4
    tokens: int = 128
    star_tokens: int = 16  # a star takes its time
    draft_tokens: int = 8
    shapes: tuple[PathShape, ...] = SHAPES
    prompt: Prompt = PROMPT

    def tokens_of(self, name: str) -> int:
        return self.star_tokens if name == "star" else self.tokens


def summary(plan: Plan, name: str, runs: list[Run]) -> dict[str, Any]:
    """Of one contestant. Without traces nobody knows the arithmetic, which then counts as nothing in the floor."""
    shape = name.split(",")[0]
    steps = [step for run in runs for step in traced_steps(run.result)]
    compute_s = statistics.median(step.compute for step in steps) if steps else 0.0
    rate = statistics.median((len(run.times) - 1) / (run.times[-1] - run.times[0]) for run in runs)
    floor = plan.distances.floor_tokens_s(shape, compute_s)
    return {
        "of_floor": round(rate / floor, 4),
        "tokens_s": round(rate, 3),
        "floor_tokens_s": round(floor, 3),
        "wire_s": plan.distances.step_s(shape),
        "compute_s": round(compute_s, 6),
        "ttft_s": round(statistics.median(run.ttft_s for run in runs), 4),
        "first_token_wire_s": 2 * plan.distances.client_s + plan.distances.first_token_s(shape),
        "tokens": sum(len(run.times) for run in runs),
        "accepted": sum(run.result.accepted_tokens for run in runs if run.result is not None),
    }


async def contest(plan: Plan, swarm: LocalSwarm, plugs: Plugs) -> dict[str, dict[str, Any]]:
    """Each contestant has a client of its own; they take turns."""
    wanted: dict[str, dict[str, Any]] = {shape: {"shape": shape} for shape in plan.shapes}
    if plan.draft_tokens:
        wanted[DRAFTS] = {"shape": "ring", "draft_tokens": plan.draft_tokens}
    taken: dict[str, list[Run]] = {name: [] for name in wanted}
    texts: set[tuple[int, ...]] = set()
    for index in range(plan.rounds):
        for name, choice in wanted.items():
            config = ClientConfig(addresses=plugs.for_client, trace=True, **choice)
            async with AsyncClient(swarm.join, config=config) as client:
                await generate(client, plan.prompt, plan.warm_tokens)
                taken[name].append(await generate(client, plan.prompt, plan.tokens_of(name)))
            texts.add(taken[name][-1].token_ids[: plan.star_tokens])
            console().print(f"round {index + 1}, {name}: {len(taken[name][-1].times)} tokens")
    if len(texts) != 1:
        raise RuntimeError(f"the shapes of the path disagree about the text: {texts}")
    return {name: summary(plan, name, runs) for name, runs in taken.items()}


def measure(plan: Plan, model: Path, *options: str) -> dict[str, Any]:
    with LocalSwarm(*COMMON, *options, timeout_s=FIRST_START_S) as swarm, Proxies() as proxies:
        excess = asyncio.run(excess_s(proxies, plan.distances.peers_s))
        near, far = (Wire(max(way - excess, 0.0)) for way in (plan.distances.peers_s, plan.distances.client_s))
        plugs = Plugs(proxies)
        for span in spans(num_blocks(model), plan.distances.hops):
            swarm.start([span], *plugs.plug(near, far))
        found = asyncio.run(contest(plan, swarm, plugs))
    return {"paths": found, "proxy_ms": round(excess * 1e3, 4)}


def bars(found: dict[str, dict[str, Any]]) -> Iterator[Bar]:
    if "ring" in found:
        yield Bar("ring: of 1 / (H ways between peers + arithmetic)", found["ring"]["of_floor"], 0.9)


def show(plan: Plan, found: dict[str, dict[str, Any]]) -> None:
    where = plan.distances
    title = f"{where.hops} hops, client {where.client_s * 1e3:g} ms away, peers {where.peers_s * 1e3:g} ms apart"
    table = Table("path", "tokens/s", "floor", "of it", "first token, ms", "of that wire", title=title)
    for name, row in found.items():
        table.add_row(
            name, f"{row['tokens_s']:.2f}", f"{row['floor_tokens_s']:.2f}", f"{row['of_floor']:.3f}",
            f"{row['ttft_s'] * 1e3:.0f}", f"{row['first_token_wire_s'] * 1e3:.0f}",
        )  # fmt: skip
    console().print(table)
    if DRAFTS in found:
        row = found[DRAFTS]
        console().print(f"drafts: {row['accepted']} of {row['tokens']} tokens were guessed right")


def main() -> None:
    parser = arguments("Tokens a second over wires with latency.")
    parser.add_argument("--hops", type=int, default=4)
    parser.add_argument("--client-ms", type=float, default=75.0, help="one way (default: %(default)s)")
    parser.add_argument("--peers-ms", type=float, default=5.0, help="one way (default: %(default)s)")
    parser.add_argument("--large", action="store_true", help="TinyLlama-1.1B's shape instead of the sample model")
    parser.add_argument("--dir", type=Path, default=cache_directory(), help="for its checkpoint (default: %(default)s)")
    args = parser.parse_args()
    distances = Distances(args.client_ms / 1e3, args.peers_ms / 1e3, args.hops)
    plan = Plan(distances, rounds=1, tokens=24, star_tokens=6) if args.quick else Plan(distances)
    model, options = SAMPLE, tuple[str, ...]()
    if args.large:
        model = random_checkpoint(LLAMA_1B, args.dir)
        prompt = random_prompt(16, vocabulary(model), "wan")
        plan = replace(plan, rounds=3, draft_tokens=0, shapes=("ring", "chain"), prompt=prompt)
        options = ("--model", str(model), "--cache", str(args.dir / "spans"), "--kv-tokens", "2048")
    result = measure(plan, model, *options)
    found = result["paths"]
    show(plan, found)
    ratios = {f"{name}_of_floor": row["of_floor"] for name, row in found.items()}
    if {"star", "ring"} <= set(found):
        ratios["ring_of_star"] = round(found["ring"]["tokens_s"] / found["star"]["tokens_s"], 2)
    if DRAFTS in found:
        ratios["drafts_of_ring"] = round(found[DRAFTS]["tokens_s"] / found["ring"]["tokens_s"], 3)
    setting = {"hops": args.hops, "client_ms": args.client_ms, "peers_ms": args.peers_ms, "rounds": plan.rounds,
               "model": model.name}  # fmt: skip
    conclude("wan", list(bars(found)), {**ratios, **result, **setting})


if __name__ == "__main__":
    main()
