"""Promise 1 while everything is under way: a peer is lost with Chunks in its engine, in the prefill or later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from client import Client, ClientConfig, Result
from peer.local import LocalPeer, LocalSwarm
from proto.connection import Connection
from swarm.clock import SystemClock

from .conftest import COMMON, PROMPT, Roster

LONG = PROMPT + "".join(f"        value_{n} = self.get({n})\n" for n in range(40))
PROMPTS = [PROMPT, LONG, LONG + "        return\n", PROMPT + "        pass\n"]
TOKENS = 12


@pytest.fixture(scope="module")
def truth(alone: Client) -> list[Result]:
    return alone.generate(PROMPTS, max_new_tokens=TOKENS, ignore_eos=True, logprobs=2)


@pytest.fixture(scope="module")
def three() -> Iterator[Roster]:
    with LocalSwarm(*COMMON) as swarm:
        yield Roster(swarm, ["0:12", "12:24", "0:24"])


async def until_it_computes(peer: LocalPeer, at_least: int, within_s: float = 30.0) -> None:
    """Wait until the peer itself says that at least so many tokens wait for its engine or are on it."""
    clock = SystemClock()
    deadline = clock.monotonic() + within_s
    connection = Connection(peer.ready["address"])
    try:
        while (await connection.info(timeout_s=5.0)).peer.queue_tokens < at_least:
            assert clock.monotonic() < deadline, f"{peer.arguments} never had {at_least} tokens to compute"
    finally:
        await connection.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.parametrize("victim", ["0:12", "12:24"])
@pytest.mark.parametrize("at_least", [100, 1], ids=["prefill", "any step"])
def test_a_peer_lost_with_work_in_its_engine_changes_no_token(
    three: Roster, truth: list[Result], victim: str, how: str, at_least: int
):
    peer = three.peers[victim]

    async def scenario() -> list[Result]:
        config = ClientConfig(prefer=three.ids("0:12", "12:24"))
        async with Client(swarm=three.swarm.join, config=config) as client:
            await client.generate_async(PROMPT, max_new_tokens=1)  # joined, and linked to both
            answers = asyncio.gather(
                *(
                    client.generate_async(prompt, max_new_tokens=TOKENS, ignore_eos=True, logprobs=2)
                    for prompt in PROMPTS
                )
            )
            await until_it_computes(peer, at_least)
            getattr(peer, how)()
            return list(await answers)

    try:
        results = asyncio.run(scenario())
    finally:
        three.revive(victim)
    assert [r.token_ids for r in results] == [r.token_ids for r in truth]
    assert [r.logprobs for r in results] == [r.logprobs for r in truth], "the same bits"
    assert [r.text for r in results] == [r.text for r in truth]
    assert any(r.failovers for r in results)
