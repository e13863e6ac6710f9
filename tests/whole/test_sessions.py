"""Many Sessions at once on three peers: each with its own right text, and no Page left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from client import Client, ClientConfig
from peer.local import LocalSwarm
from proto.connection import Connection
from swarm.clock import SystemClock

from .conftest import COMMON, PROMPT

PROMPTS = [f"{PROMPT}        # case {n}\n" for n in range(30)]
SAMPLING = {
    "max_new_tokens": 16,
    "ignore_eos": True,
    "temperature": 0.8,
    "top_p": 0.95,
    "repetition_penalty": 1.1,
    "logprobs": 1,
}


@pytest.fixture(scope="module")
def three() -> Iterator[LocalSwarm]:
    with LocalSwarm(*COMMON) as swarm:
        swarm.start(["0:10", "8:16", "16:24"])
        yield swarm


async def kv_in_use(swarm: LocalSwarm) -> list[int]:
    """Reserved KV tokens of every peer, as it tells itself."""
    used: list[int] = []
    for peer in swarm.peers:
        connection = Connection(peer.ready["address"])
        info = (await connection.info(timeout_s=5.0)).peer
        used.append(info.kv_tokens - info.kv_tokens_free)
        await connection.close()
    return used


async def kv_comes_back(swarm: LocalSwarm, within_s: float = 10.0) -> list[int]:
    """Poll until nothing is reserved, or the deadline. The Info round trip itself paces the loop."""
    clock = SystemClock()
    deadline = clock.monotonic() + within_s
    while any(used := await kv_in_use(swarm)) and clock.monotonic() < deadline:
        pass
    return used


def test_thirty_sessions_at_once_each_get_their_own_text(three: LocalSwarm, alone: Client):
    expected = [alone.generate(prompt, seed=n, **SAMPLING) for n, prompt in enumerate(PROMPTS)]

    async def all_at_once() -> list:
        async with Client(swarm=three.join) as client:
            return await asyncio.gather(
                *(client.generate_async(prompt, seed=n, **SAMPLING) for n, prompt in enumerate(PROMPTS))
            )

    results = asyncio.run(all_at_once())
    assert [r.token_ids for r in results] == [r.token_ids for r in expected]
    assert [r.logprobs for r in results] == [r.logprobs for r in expected]
    assert [r.text for r in results] == [r.text for r in expected]
    assert len({tuple(r.token_ids) for r in results}) > 20, "the texts should differ, or the test shows nothing"
    assert all(len(r.route) >= 3 for r in results)
    assert asyncio.run(kv_comes_back(three)) == [0, 0, 0]


def test_a_client_that_walks_away_in_mid_sentence_leaves_no_page_behind(three: LocalSwarm):
    async def walk_away() -> list[int]:
        async with Client(swarm=three.join) as client:
            stream = client.stream_async(PROMPT, max_new_tokens=64, ignore_eos=True)
            await anext(stream)
            held = await kv_in_use(three)
            await stream.aclose()
        return held

    assert all(asyncio.run(walk_away())), "a running Session holds Pages at every Hop"
    assert asyncio.run(kv_comes_back(three)) == [0, 0, 0]


def test_more_sessions_than_fit_wait_for_their_turn_and_all_finish(alone: Client):
    with LocalSwarm("--threads", "1", "--kv-tokens", "256") as swarm:
        swarm.start(["0:12", "12:24"])
        with Client(swarm=swarm.join, config=ClientConfig(patience_s=60.0)) as client:
            results = client.generate(PROMPTS[:8], max_new_tokens=8, ignore_eos=True)
    assert [r.token_ids for r in results] == [
        alone.generate(p, max_new_tokens=8, ignore_eos=True).token_ids for p in PROMPTS[:8]
    ]
