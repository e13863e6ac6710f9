"""Promise 1, with real processes: kill or freeze any peer at any step, and the tokens are those of the undisturbed run.

Logprobs are compared too, as the bits they are: a greedy token forgives a small error, its probability does not.

Ten Sessions are brought to ten different steps, then the peer is lost, then all go on. So one loss is a loss at ten
steps. In chain and star they rest there, for a stream is pulled by its reader; a ring runs ahead, and is given so much
to say that it is still under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from client import AsyncStream, Client, ClientConfig, Result
from client.config import PathShape
from peer.local import LocalSwarm

from .conftest import COMMON, PROMPT, Roster

PRIMARY, SPARE = ["0:10", "8:16", "16:24"], ["0:12", "8:24"]
TOKENS = 100
STEPS = (1, 2, 3, 5, 7, 10, 13, 17, 20, 24)


@pytest.fixture(scope="module")
def five() -> Iterator[Roster]:
    with LocalSwarm(*COMMON) as swarm:
        yield Roster(swarm, PRIMARY + SPARE)


@pytest.fixture(scope="module")
def truth(alone: Client) -> Result:
    result = alone.generate(PROMPT, max_new_tokens=TOKENS, ignore_eos=True, logprobs=2)
    assert len(result.token_ids) == TOKENS
    return result


async def pull(stream: AsyncStream, count: int) -> None:
    """Read pieces until ``count`` tokens are there."""
    seen = 0
    while seen < count:
        seen += len((await anext(stream)).token_ids)


CASES = [("ring", victim, how) for victim in PRIMARY + SPARE for how in ("kill", "freeze")] + [
    ("chain", "0:10", "freeze"), ("chain", "8:16", "kill"), ("chain", "16:24", "kill"),
    ("star", "0:10", "kill"), ("star", "8:16", "freeze"), ("star", "16:24", "kill"),
]  # fmt: skip


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("shape", "victim", "how"), CASES)
def test_the_loss_of_a_peer_at_ten_steps_changes_no_token(
    five: Roster, truth: Result, shape: PathShape, victim: str, how: str
):
    preferred = five.ids(*(PRIMARY if victim in PRIMARY else SPARE))

    async def scenario() -> list[Result]:
        config = ClientConfig(prefer=preferred, shape=shape)
        async with Client(swarm=five.swarm.join, config=config) as client:
            streams = [client.stream_async(PROMPT, max_new_tokens=TOKENS, ignore_eos=True, logprobs=2) for _ in STEPS]
            await asyncio.gather(*(pull(s, n) for s, n in zip(streams, STEPS, strict=True)))
            getattr(five.peers[victim], how)()
            return list(await asyncio.gather(*(stream.finish() for stream in streams)))

    try:
        results = asyncio.run(scenario())
    finally:
        five.revive(victim)
    for step, result in zip(STEPS, results, strict=True):
        assert result.token_ids == truth.token_ids, f"{how} of {victim} at step {step}"
        assert result.logprobs == truth.logprobs, f"{how} of {victim} at step {step}"
        assert result.text == truth.text
        assert result.failovers >= 1, f"{victim} was not on the route {result.route}"
