"""Keys that are read again, and leaving while many are served."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from gateway.config import GatewayConfig
from gateway.keys import read_keys
from gateway.limits import Limits
from tests.gateway.house import House, house, served_house, until
from tests.support.hash_engine import undisturbed

STREAMS = 24
WISH: dict[str, Any] = {"max_tokens": 40, "temperature": 0, "ignore_eos": True, "stream": True}


async def status(there: House, key: str) -> int:
    return (await there.http.get("/v1/models", headers={"authorization": f"Bearer {key}"})).status_code


async def test_keys_are_read_again_and_limits_hold_from_then_on(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text("ann sk-ann-secret\nbob sk-bob-secret rpm=6")
    config = GatewayConfig(keys=path)
    async with house(tmp_path, config=config, keyring=read_keys(path, {}, Limits())) as there:

        async def ask() -> int:
            answer = await there.http.post(
                "/v1/completions",
                json={"prompt": "x", "max_tokens": 1},
                headers={"authorization": "Bearer sk-bob-secret"},
            )
            return answer.status_code

        assert [await ask(), await ask()] == [200, 429]
        path.write_text("bob sk-bob-secret\neve sk-eve-secret")
        assert there.desk.renew_keys({})
        assert [await status(there, f"sk-{who}-secret") for who in ("ann", "bob", "eve")] == [401, 200, 200]
        assert [await ask(), await ask()] == [200, 200], "bob has no limit any more"


async def test_keys_that_cannot_be_read_leave_the_old_ones(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text("ann sk-ann-secret")
    async with house(tmp_path, config=GatewayConfig(keys=path), keyring=read_keys(path, {}, Limits())) as there:
        for text in ("", "ann short", "# nobody"):
            path.write_text(text)
            assert not there.desk.renew_keys({})
        path.unlink()
        assert not there.desk.renew_keys({})
        assert await status(there, "sk-ann-secret") == 200 and await status(there, "sk-eve-secret") == 401


async def test_a_gateway_without_keys_gets_none_by_reading_again(tmp_path: Path):
    async with house(tmp_path) as there:
        assert not there.desk.renew_keys({"SHOAL_API_KEYS": "ann sk-ann-secret"})
        assert (await there.http.get("/v1/models")).status_code == 200


async def test_leaving_under_load_finishes_all_that_was_let_in_and_nothing_else(tmp_path: Path):
    """More streams than places: some run, some wait, when the gateway is told to go. Others keep knocking."""
    config = GatewayConfig(max_running=6, max_queue=STREAMS, drain_s=60, queue_timeout_s=60)
    async with served_house(tmp_path, config=config) as there:
        await there.said("/v1/completions", prompt="x", max_tokens=1)
        for peer in there.swarm.peers:
            peer.engine.step_s = 0.002
        prompts = ["x" * (number + 1) for number in range(STREAMS)]
        asking = [asyncio.create_task(there.http.post("/v1/completions", json={"prompt": p, **WISH})) for p in prompts]
        await until(lambda: there.desk.gate.running == 6 and there.desk.gate.waiting == STREAMS - 6)
        leaving = asyncio.create_task(there.desk.drain())
        await until(lambda: there.desk.draining)
        refused = await asyncio.gather(*(there.post("/v1/completions", prompt="y") for _ in range(8)))
        assert {answer.status_code for answer in refused} == {503}
        assert all(answer.headers["retry-after"] for answer in refused)
        assert (await there.http.get("/readyz")).status_code == 503
        assert (await there.http.get("/healthz")).status_code == 200
        assert await leaving, "all had the time they needed"
        for prompt, answer in zip(prompts, await asyncio.gather(*asking), strict=True):
            assert answer.status_code == 200 and _text(answer) == there.codec.decode(
                undisturbed(there.codec.encode(prompt), 40)
            )
        await there.swarm.empty()


def _text(answer: httpx.Response) -> str:
    lines = answer.text.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    return "".join(json.loads(line[6:])["choices"][0]["text"] for line in lines[:-2])
