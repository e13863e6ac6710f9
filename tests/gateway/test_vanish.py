"""Clients that vanish at any moment, many at once: nothing of them stays."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import GatewayConfig
from tests.gateway.house import House, served_house, until

CLIENTS = 60


async def visit(there: House, chance: random.Random) -> None:
    """One request of a random kind; its connection breaks after a random time, or it is read to its end."""
    wish: dict[str, Any] = {
        "prompt": "x" * chance.randint(1, 60), "max_tokens": chance.choice((1, 5, 100)), "n": chance.choice((1, 1, 2)),
        "stream": chance.random() < 0.7, "ignore_eos": True,
    }  # fmt: skip
    stay_s = chance.choice((0.0, 0.005, 0.02, 0.1, 10.0))
    try:
        async with (
            asyncio.timeout(stay_s),
            httpx.AsyncClient(base_url=there.url, timeout=20) as http,
            http.stream("POST", "/v1/completions", json=wish) as answer,
        ):
            async for _ in answer.aiter_bytes():
                pass
    except TimeoutError:
        pass


@pytest.mark.parametrize("seed", [1, 2])
async def test_clients_that_vanish_leave_nothing_behind(tmp_path: Path, seed: int):
    config = GatewayConfig(max_running=8, max_queue=20, queue_timeout_s=1)
    async with served_house(tmp_path, config=config) as there:
        await there.said("/v1/completions", prompt="x", max_tokens=1)
        for peer in there.swarm.peers:
            peer.engine.step_s = 0.002
        await asyncio.sleep(0)
        before = {task.get_name() for task in asyncio.all_tasks() if not task.get_name().startswith("Task-")}
        chances = [random.Random(f"{seed}/{n}") for n in range(CLIENTS)]
        await asyncio.gather(*(visit(there, chance) for chance in chances))
        await there.swarm.empty()
        await until(lambda: there.desk.gate.running == 0 and there.desk.gate.waiting == 0)
        assert not there.desk._generations and not there.desk.gate._taken
        after = {task.get_name() for task in asyncio.all_tasks() if not task.get_name().startswith("Task-")}
        assert after <= before | {"look at the swarm", "probe the swarm"}
        again = await there.said("/v1/completions", prompt="x", max_tokens=3)
        assert again["usage"]["completion_tokens"] == 3
