"""What do drafts cost on text that cannot be drafted, and what do they bring on text that can?

The sample model on two peers, one thread each, as a ring: the last Hop looks its guesses up in prompt and answer. The
same Sessions with and without drafts take turns, so whatever the machine does meanwhile it does to both.

The physics: a guess is a row more in every Hop's Batch, a few percent of a step each; a right one saves a step. On text
drawn at a temperature where nothing repeats hardly any guess is right, and the drafter has to notice: at most 3 % may
be lost. On code at temperature 0, which repeats itself, steps are saved. The tokens are the same in either case.

    python -m benchmarks.drafts [--rounds 9] [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmarks.kit.driving import COMMON, SAMPLE, arguments, generate, num_blocks, spans
from benchmarks.kit.report import Bar, conclude, console
from client import AsyncClient, ClientConfig
from peer.local import LocalSwarm

PROMPT = "class Queue:\n    def put(self, item):\n"
DRAFTS = 8


@dataclass(frozen=True)
class Plan:
    rounds: int = 9
    tokens: int = 300


TEXTS: dict[str, dict[str, Any]] = {"cannot be drafted": {"temperature": 5.0}, "repeats itself": {}}


async def contest(plan: Plan, swarm: LocalSwarm) -> dict[str, Any]:
    """Tokens a second of each text, without drafts and with them, by rounds."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in TEXTS}
    accepted = dict.fromkeys(TEXTS, 0)
    plain, drafting = ClientConfig(shape="ring"), ClientConfig(shape="ring", draft_tokens=DRAFTS)
    async with AsyncClient(swarm.join, config=plain) as one, AsyncClient(swarm.join, config=drafting) as other:
        for index in range(plan.rounds + 1):
            for name, options in TEXTS.items():
                runs = [await generate(each, PROMPT, plan.tokens, seed=index, **options) for each in (one, other)]
                if runs[0].token_ids != runs[1].token_ids:
                    raise RuntimeError(f"drafts changed the text of seed {index}, {name}")
                if index:  # the first round warms up
                    without, with_drafts = ((len(run.times) - 1) / (run.times[-1] - run.times[0]) for run in runs)
                    rates[name].append((without, with_drafts))
                    accepted[name] += runs[1].result.accepted_tokens if runs[1].result is not None else 0
    return {
        name: {
            "times": round(statistics.median(after / before for before, after in pairs), 4),
            "tokens_s": round(statistics.median(before for before, _ in pairs), 1),
            "tokens_s_drafts": round(statistics.median(after for _, after in pairs), 1),
            "accepted_share": round(accepted[name] / (plan.rounds * plan.tokens), 4),
        }
        for name, pairs in rates.items()
    }


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    yield Bar("text that cannot be drafted: with drafts, of without", found["cannot be drafted"]["times"], 0.97)


def main() -> None:
    parser = arguments("What drafts cost and bring.")
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    args = parser.parse_args()
    plan = Plan(rounds=2, tokens=100) if args.quick else Plan(rounds=args.rounds)
    with LocalSwarm(*COMMON) as swarm:
        swarm.start(spans(num_blocks(SAMPLE), 2))
        found = asyncio.run(contest(plan, swarm))
    table = Table("text", "tokens/s", "with drafts", "times", "of the tokens guessed")
    for name, row in found.items():
        share = f"{row['accepted_share']:.0%}"
        table.add_row(name, f"{row['tokens_s']}", f"{row['tokens_s_drafts']}", f"{row['times']:.3f}", share)
    console().print(table)
    ratios = {
        "undraftable_times": found["cannot be drafted"]["times"],
        "repeating_times": found["repeats itself"]["times"],
    }
    conclude("drafts", list(bars(found)), {**ratios, "texts": found, "rounds": plan.rounds, "tokens": plan.tokens})


if __name__ == "__main__":
    main()
