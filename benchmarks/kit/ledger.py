"""The soak's books: which Sessions there are to run, what came of them, how the peers' figures went. Starts nothing."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.kit.driving import random_prompt
from benchmarks.kit.figures import growth

ENDS = {"finish": 2, "leave": 1}  # how often a Session ends so


@dataclass(frozen=True)
class Job:
    """One Session and what it has to come to."""

    prompt: list[int]
    tokens: int
    options: dict[str, Any]
    oracle: tuple[int, ...] = ()

    def order(self, leave_after: int | None) -> dict[str, Any]:
        return {"prompt": self.prompt, "tokens": self.tokens, "options": self.options, "leave_after": leave_after}


@dataclass
class Life:
    """A peer's process, look by look. ``handles``: at first, and in the end where it was still there."""

    pid: int
    handles: list[int]
    resident: list[float] = field(default_factory=list)


@dataclass
class Ledger:
    """What came of it all."""

    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)

    def enter(self, job: Job, outcome: dict[str, Any]) -> None:
        if "error" in outcome:
            self.complain("failed", outcome["error"])
            return
        finished = "token_ids" in outcome
        ids = tuple(outcome["token_ids" if finished else "left"])
        self.counts["finished" if finished else "left"] += 1
        expected = job.oracle if finished else job.oracle[: len(ids)]
        if ids != expected:
            self.complain("wrong", f"prompt of {len(job.prompt)} tokens, {job.options}: {ids} instead of {expected}")

    def complain(self, what: str, text: str) -> None:
        self.counts[what] += 1
        self.complaints.append(f"{what}: {text}")

    def memory_growth(self, at_least: int) -> float:
        """The worst of all peers that were looked at so often; 1 where none was."""
        long = [life for life in self.lives if len(life.resident) >= at_least]
        return max((growth(life.resident) for life in long), default=1.0)

    def handles_more(self) -> int:
        return max((life.handles[-1] - life.handles[0] for life in self.lives), default=0)


def draw_jobs(drawn: random.Random, vocab: int, number: int) -> list[Job]:
    """Short and long prompts, some with a beginning in common; greedy and sampled."""
    system = random_prompt(200, vocab, drawn.random())
    jobs: list[Job] = []
    for index in range(number):
        prompt = random_prompt(drawn.choice((8, 40, 300)), vocab, drawn.random())
        sampled = {"temperature": 0.8, "top_p": 0.9, "seed": drawn.randrange(1 << 30)}
        options = sampled if index % 2 else {}
        jobs.append(Job(system + prompt if index % 3 == 0 else prompt, drawn.randint(8, 96), options))
    return jobs


def draw_orders(drawn: random.Random, jobs: list[Job]) -> tuple[list[Job], list[dict[str, Any]]]:
    """A visit's Sessions: some of ``jobs``, of which some are given up after some of their tokens."""
    chosen = drawn.choices(jobs, k=drawn.randint(1, 4))
    ends = drawn.choices(list(ENDS), weights=list(ENDS.values()), k=len(chosen))
    leave = [drawn.randint(1, job.tokens) if end == "leave" else None for job, end in zip(chosen, ends, strict=True)]
    return chosen, [job.order(after) for job, after in zip(chosen, leave, strict=True)]
