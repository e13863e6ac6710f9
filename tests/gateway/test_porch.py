"""Keys, sizes and a closing door, before anything is read; and readers that go."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import GatewayConfig
from gateway.keys import Keyring, read_keys
from gateway.limits import Limits
from tests.client.loopback import MAX_POSITIONS
from tests.gateway.house import House, house, served_house, until

COMPLETIONS = "/v1/completions"
LONG: dict[str, Any] = {"prompt": "x", "max_tokens": MAX_POSITIONS - 10, "temperature": 0, "ignore_eos": True}
STEP_S = 0.01
TYPE = b"content-type: application/json\r\n"
SHORTER = {**LONG, "max_tokens": 40}
AT_ONCE_S = 2.0  # a step and a busy machine; what is not cut short runs twice as long


def keyring(tmp_path: Path, text: str) -> Keyring:
    path = tmp_path / "keys"
    path.write_text(text)
    return read_keys(path, {}, Limits())


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[House]:
    """On a port, and every token takes a while."""
    async with served_house(tmp_path, config=GatewayConfig(max_running=2, max_queue=1, drain_s=20)) as there:
        await there.said(COMPLETIONS, prompt="x", max_tokens=1)
        for peer in there.swarm.peers:
            peer.engine.step_s = STEP_S
        yield there


async def test_without_a_key_nothing_is_told_but_health(tmp_path: Path):
    async with house(tmp_path, keyring=keyring(tmp_path, "ann sk-ann-secret")) as there:
        for path in ("/health", "/healthz", "/readyz", "/version", "/metrics"):
            assert (await there.http.get(path)).status_code == 200
        for headers, code in (
            ({}, "missing_api_key"), ({"authorization": "Bearer wrong"}, "invalid_api_key"),
            ({"authorization": "Basic sk-ann-secret"}, "missing_api_key"),
        ):  # fmt: skip
            for path in ("/v1/models", "/tokenize", "/nothing"):
                answer = await there.http.request("POST", path, headers=headers, json={})
                assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["code"] == code
        answer = await there.http.get("/v1/models", headers={"authorization": "Bearer sk-ann-secret"})
        assert answer.status_code == 200


async def test_each_key_has_its_own_limits(tmp_path: Path):
    ring = keyring(tmp_path, "ann sk-ann-secret rpm=1\nbob sk-bob-secret")
    async with house(tmp_path, keyring=ring) as there:

        async def ask(key: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {key}"}
            return await there.http.post(COMPLETIONS, json={"prompt": "x", "max_tokens": 1}, headers=headers)

        assert (await ask("sk-ann-secret")).status_code == 200
        refused = await ask("sk-ann-secret")
        assert refused.status_code == 429 and 50 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert [(await ask("sk-bob-secret")).status_code for _ in range(3)] == [200] * 3


async def test_where_there_are_no_keys_an_address_is_limited(tmp_path: Path):
    async with house(tmp_path, config=GatewayConfig(limits=Limits(requests_per_minute=6))) as there:
        statuses = [(await there.post("/tokenize", prompt="x")).status_code for _ in range(2)]
        assert statuses == [200, 429]
        assert (await there.http.get("/v1/models")).status_code == 200


async def test_a_body_that_is_too_large_is_refused_announced_or_not(tmp_path: Path):
    async with house(tmp_path, config=GatewayConfig(max_body_bytes=100)) as there:
        fits = {"prompt": "x", "max_tokens": 1}
        assert (await there.http.post(COMPLETIONS, json=fits)).status_code == 200
        announced = await there.http.post(COMPLETIONS, json={"prompt": "x" * 100})

        async def parts():
            for _ in range(20):
                yield b"x" * 10

        unannounced = await there.http.post(COMPLETIONS, content=parts())
        for answer in (announced, unannounced):
            assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"


async def test_a_body_that_never_comes_ends_in_408(tmp_path: Path):
    async with served_house(tmp_path, config=GatewayConfig(body_timeout_s=0.1)) as there:
        port = int(there.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{")
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        finally:
            writer.close()
        assert head.startswith(b"HTTP/1.1 408") and b"connection: close" in head.lower()


async def test_strange_request_ids_are_not_repeated(tmp_path: Path):
    async with house(tmp_path) as there:
        answer = await there.http.get("/health", headers={"x-request-id": "a b\x7f"})
        assert answer.headers["x-request-id"] != "a b\x7f" and len(answer.headers["x-request-id"]) == 24


@pytest.mark.parametrize("answers", [{}, {"n": 2}])
async def test_a_reader_of_a_stream_that_goes_frees_its_seats_within_a_step(slow: House, answers: dict[str, int]):
    async with slow.http.stream("POST", COMPLETIONS, json={**LONG, **answers, "stream": True}) as stream:
        async for _ in stream.aiter_lines():
            break
        assert slow.swarm.seats > 0
    async with asyncio.timeout(AT_ONCE_S):
        await slow.swarm.empty()
    await until(lambda: slow.desk.gate.running == 0)
    metrics = (await slow.http.get("/metrics")).text
    assert f'shoal_gateway_answers_total{{model="other",reason="cancelled"}} {float(answers.get("n", 1))}' in metrics


async def test_a_reader_without_a_stream_that_goes_frees_them_too(slow: House):
    with pytest.raises(httpx.ReadTimeout):
        await slow.http.post(COMPLETIONS, json=LONG, timeout=0.2)
    async with asyncio.timeout(AT_ONCE_S):
        await slow.swarm.empty()
    await until(lambda: slow.desk.gate.running == 0)


async def test_who_goes_while_waiting_leaves_the_queue(slow: House):
    running = [asyncio.create_task(slow.http.post(COMPLETIONS, json=LONG)) for _ in range(2)]
    await until(lambda: slow.desk.gate.running == 2)
    with pytest.raises(httpx.ReadTimeout):
        await slow.http.post(COMPLETIONS, json=LONG, timeout=0.2)
    await until(lambda: slow.desk.gate.waiting == 0)
    assert slow.desk.gate.running == 2
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await until(lambda: slow.desk.gate.running == 0)


async def test_a_full_gateway_says_so_at_once(slow: House):
    asking = [asyncio.create_task(slow.http.post(COMPLETIONS, json=SHORTER)) for _ in range(3)]
    await until(lambda: slow.desk.gate.waiting == 1)
    answer = await slow.post(COMPLETIONS, **LONG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "2"
    assert [each.status_code for each in await asyncio.gather(*asking)] == [200] * 3


async def test_a_reader_that_takes_nothing_counts_as_gone(tmp_path: Path):
    async with served_house(tmp_path, config=GatewayConfig(write_timeout_s=0.3), send_buffer=4096) as there:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(there.url.rsplit(":", 1)[1])))
            body = json.dumps({**LONG, "max_tokens": 240, "stream": True, "n": 2, "logprobs": 20}).encode()
            head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n" + TYPE + b"content-length: %d\r\n\r\n"
            await asyncio.get_running_loop().sock_sendall(sock, head % len(body) + body)
            await until(lambda: there.desk.gate.running == 1)
            await until(lambda: there.desk.gate.running == 0, 20)
            await there.swarm.empty()
        assert 'reason="cancelled"} 2.0' in (await there.http.get("/metrics")).text


async def test_draining_finishes_what_runs_and_takes_nothing_new(slow: House):
    wish = {**LONG, "max_tokens": 40, "stream": True}
    async with slow.http.stream("POST", COMPLETIONS, json=wish) as stream:
        lines = stream.aiter_lines()
        await anext(lines)
        leaving = asyncio.create_task(slow.desk.drain())
        await until(lambda: slow.desk.draining)
        refused = await slow.post(COMPLETIONS, **LONG)
        assert refused.status_code == 503 and refused.headers["connection"] == "close"
        assert refused.json()["error"]["code"] == "draining" and "retry-after" in refused.headers
        assert (await slow.http.get("/readyz")).status_code == 503
        assert (await slow.http.get("/healthz")).status_code == 200
        rest = [line async for line in lines]
    assert rest[-2] == "data: [DONE]" and '"finish_reason":"length"' in rest[-4]
    assert await leaving


async def test_what_does_not_finish_in_time_is_given_up_aloud(tmp_path: Path):
    async with served_house(tmp_path, config=GatewayConfig(drain_s=0.2)) as there:
        for peer in there.swarm.peers:
            peer.engine.step_s = STEP_S
        async with there.http.stream("POST", COMPLETIONS, json={**LONG, "stream": True}) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            assert not await there.desk.drain()
            rest = [line async for line in lines]
        assert rest[-2] == "data: [DONE]" and '"code":"draining"' in rest[-4]
        await there.swarm.empty()
