"""What the benchmarks of the data path drive a swarm with: Sessions whose tokens are timed.

All Sessions of one benchmark live on one loop, as those of one program do; what that costs is part of what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.kit.figures import Arrivals
from client import AsyncClient, Result
from model.config import read_config
from peer.local import LocalPeer, LocalSwarm

SAMPLE = Path(__file__).resolve().parent.parent.parent / "model" / "sample"
COMMON = ("--threads", "1", "--log-level", "warning")
Prompt = str | Sequence[int]
FIRST_START_S = 600.0  # a peer may have to quantise first
SPECIAL_TOKENS = 300  # ids below are special or bytes: prompts are drawn from the others


@dataclass
class Run:
    """One Session: when it was asked for, when its tokens came, and what it came to."""

    begun: float
    times: list[float] = field(default_factory=list)
    result: Result | None = None

    @property
    def arrivals(self) -> Arrivals:
        return Arrivals(self.times)

    @property
    def ttft_s(self) -> float:
        return self.times[0] - self.begun

    @property
    def token_ids(self) -> tuple[int, ...]:
        return () if self.result is None else self.result.token_ids


async def generate(
    client: AsyncClient, prompt: Prompt, tokens: int, heard: Callable[[Run, Any], None] | None = None,
    **options: Any,
) -> Run:  # fmt: skip
    """``tokens`` of them, whatever they are. ``heard`` is told of every Piece; cancelled, the Session is closed."""
    run = Run(time.perf_counter())
    given = prompt if isinstance(prompt, str) else list(prompt)
    async with client.stream(given, max_new_tokens=tokens, ignore_eos=True, **options) as stream:
        async for piece in stream:
            run.times.append(time.perf_counter())
            if heard is not None:
                heard(run, piece)
        run.result = stream.result
    return run


async def together(client: AsyncClient, prompts: Sequence[Prompt], tokens: int, **options: Any) -> list[Run]:
    """As many Sessions at once as there are prompts."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(generate(client, prompt, tokens, **options)) for prompt in prompts]
    return [task.result() for task in tasks]


@dataclass(frozen=True)
class Step:
    """One decoding step of one Session as its Hops and the client's clock saw it; seconds."""

    total: float
    queue: float
    compute: float


def traced_steps(result: Result | None) -> list[Step]:
    """The steps after the prompt of which every Hop said where its time went; none where the client does not trace."""
    trace = getattr(result, "trace", None)
    return [
        Step(step.total_s, sum(hop.queue_s for hop in step.hops), sum(hop.compute_s for hop in step.hops))
        for step in (trace.steps[1:] if trace is not None else ())
        if step.hops
    ]


def random_prompt(length: int, vocab: int, seed: object) -> list[int]:
    """Ordinary tokens; the same for the same seed. Two seeds share no beginning, so no prefix is found again."""
    drawn = random.Random(str(seed))
    return [drawn.randrange(SPECIAL_TOKENS, vocab) for _ in range(length)]


def vocabulary(model: Path) -> int:
    return read_config(model, model.name).vocab_size


def spans(num_blocks: int, num_hops: int) -> list[str]:
    """Equal ones, as far as they can be."""
    cuts = [num_blocks * index // num_hops for index in range(num_hops + 1)]
    return [f"{start}:{end}" for start, end in pairwise(cuts)]


def num_blocks(model: Path) -> int:
    return read_config(model, model.name).num_blocks


@contextmanager
def pair_and_single(model: Path, cache: Path, kv_tokens: int) -> Iterator[tuple[LocalSwarm, LocalSwarm]]:
    """Two swarms of the same model: two peers with half of the Blocks each, and one peer with all of them."""
    common = (*COMMON, "--model", str(model), "--cache", str(cache), "--kv-tokens", str(kv_tokens))
    with LocalSwarm(*common, timeout_s=FIRST_START_S) as pair, LocalSwarm(*common, timeout_s=FIRST_START_S) as single:
        pair.start(spans(num_blocks(model), 2))
        single.start(spans(num_blocks(model), 1))
        yield pair, single


class Slot:
    """A place in a swarm: peers of the same Span and the same identity, one after the other."""

    def __init__(self, swarm: LocalSwarm, span: str, identity: Path, *extra: str):
        self.span, self._swarm = span, swarm
        self._options = ("--identity", str(identity), *extra)
        self.peer: LocalPeer = self._start()

    def _start(self) -> LocalPeer:
        return self._swarm.start([self.span], *self._options)[0]

    async def restart(self) -> LocalPeer:
        """After its process has ended, or is to end now."""
        self.peer.end()
        self._swarm.peers.remove(self.peer)
        self.peer = await asyncio.to_thread(self._start)
        return self.peer


def arguments(describe: str) -> argparse.ArgumentParser:
    """The options that all of these benchmarks take."""
    parser = argparse.ArgumentParser(description=describe)
    parser.add_argument("--quick", action="store_true", help="few and small runs, to see that it works")
    return parser
