"""How many Sessions fit into the same KV bytes, if they stay short of what they might need?

One peer with all Blocks of the sample model and KV cache for 8,192 tokens. Sessions come that may generate up to the
model's 2,048 positions, as chats do that leave max_new_tokens at its most; each is given up once all are there, with
some dozens of tokens. Contiguous buffers of max_length, as Petals and others hold them, take 8,192 / 2,048 = 4 of them,
whatever they use. Pages are taken as they fill, and with ``--overcommit F`` the peer promises F times what it has: what
is idle then makes room on the host when it gets tight.

The physics: a Session of n tokens needs ceil(n / 32) Pages; without overcommit the promise is what counts, and so
nothing is gained over contiguous buffers. Admitted are those that have a token while none has left; each one's first
tokens are compared with those of a Session that was alone. Bar: at least four times the contiguous.

    python -m benchmarks.capacity [--overcommit 8] [--quick]
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.kit.driving import (
    COMMON,
    SAMPLE,
    Run,
    arguments,
    generate,
    num_blocks,
    random_prompt,
    spans,
    vocabulary,
)
from benchmarks.kit.figures import contiguous_sessions
from benchmarks.kit.report import Bar, conclude, console
from client import AsyncClient, ClientConfig
from model.config import read_config
from peer.local import LocalSwarm
from swarm.errors import ShoalError

CHECKED = 8  # first tokens of every Session


@dataclass(frozen=True)
class Plan:
    overcommit: float = 8.0
    kv_tokens: int = 8192
    max_length: int = 2048
    prompt: int = 16
    come: int = 40  # Sessions that want in
    patience_s: float = 3.0  # without a newcomer, and whoever is not in stays out
    at_most_s: float = 30.0


def start(plan: Plan, stack: ExitStack) -> LocalSwarm:
    """The peer."""
    options = ("--kv-tokens", str(plan.kv_tokens), "--max-sessions", str(plan.come))
    swarm = stack.enter_context(LocalSwarm(*COMMON, *options, "--overcommit", f"{plan.overcommit:g}"))
    swarm.start(spans(num_blocks(SAMPLE), 1))
    return swarm


async def admitted(plan: Plan, swarm: LocalSwarm, config: ClientConfig) -> dict[str, Any]:
    """All come at once; those that are let in decode until nobody else is."""
    vocab = vocabulary(SAMPLE)
    prompts = [random_prompt(plan.prompt, vocab, f"capacity/{number}") for number in range(plan.come)]
    async with AsyncClient(swarm.join, config=config) as client:
        alone = [(await generate(client, prompt, CHECKED)).token_ids for prompt in prompts]
        inside: dict[int, list[int]] = {}
        newcomer = asyncio.Event()

        async def session(number: int) -> None:
            def heard(run: Run, piece: Any) -> None:
                if number not in inside:
                    newcomer.set()
                inside.setdefault(number, []).extend(piece.token_ids)

            try:
                await generate(client, prompts[number], plan.max_length - plan.prompt, heard)
            except ShoalError as error:
                console().print(f"session {number}: {error}")

        begun = time.perf_counter()
        tasks = [asyncio.create_task(session(number)) for number in range(plan.come)]
        try:
            while len(inside) < plan.come and time.perf_counter() < begun + plan.at_most_s:
                newcomer.clear()
                await asyncio.wait_for(newcomer.wait(), plan.patience_s)
        except TimeoutError:
            pass
        left = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "admitted": len(inside),
        "left_early": left,
        "tokens": sum(len(ids) for ids in inside.values()),
        "texts_that_differ": sum(
            tuple(ids[:CHECKED]) != alone[number][: len(ids)] for number, ids in inside.items()
        ),
    }  # fmt: skip


def measure(plan: Plan) -> dict[str, Any]:
    assert plan.max_length <= read_config(SAMPLE).max_positions
    config = ClientConfig(max_concurrent=plan.come, admission_timeout_s=plan.at_most_s)
    with ExitStack() as stack:
        return asyncio.run(admitted(plan, start(plan, stack), config))


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    yield Bar("sessions, times contiguous buffers", found["times_contiguous"], 4.0)
    yield Bar("texts that differ from those alone", found["texts_that_differ"], 0, most=True)
    yield Bar("sessions that were lost", found["left_early"], 0, most=True)


def main() -> None:
    parser = arguments("Sessions in the same KV bytes.")
    parser.add_argument("--overcommit", type=float, default=8.0, metavar="F", help="default: %(default)s")
    args = parser.parse_args()
    plan = Plan(args.overcommit, kv_tokens=4096, come=20) if args.quick else Plan(args.overcommit)
    found = measure(plan)
    contiguous = contiguous_sessions(plan.kv_tokens, plan.max_length)
    found = {"times_contiguous": round(found["admitted"] / contiguous, 4), **found, "contiguous": contiguous}
    console().print(
        f"{found['admitted']} of {plan.come} sessions admitted, {contiguous} contiguous buffers; "
        f"{found['tokens']} tokens were generated in a cache for {plan.kv_tokens}"
    )
    conclude("capacity", list(bars(found)), {**found, **vars(plan)})


if __name__ == "__main__":
    main()
