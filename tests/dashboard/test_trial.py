""" "Try it": what it streams, what it refuses, what is left when somebody goes."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.text import Codec
from client.trace import HopTrace, StepTrace, Trace
from dashboard import trial
from dashboard.trial import MAX_PROMPT, explain, waterfall
from swarm.errors import (
    DeadLink,
    Draining,
    ModelNotFound,
    NoRoute,
    Refused,
    ShoalError,
    SwarmUnreachable,
    Timeout,
    UsageError,
)
from swarm.span import Span
from tests.dashboard.house import Shown, served, shown
from tests.support.hash_engine import MODEL

ASK: dict[str, Any] = {"prompt": "def fib_", "max_tokens": 12}


def events(text: str) -> list[tuple[str, Any]]:
    parts = [part.split("\n") for part in text.split("\n\n") if part]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


async def told(there: Shown, **body: Any) -> list[tuple[str, Any]]:
    answer = await there.http.post("/api/v1/try", json={**ASK, **body})
    assert answer.status_code == 200, answer.text
    return events(answer.text)


async def test_an_answer_streams_with_its_route_and_ends_with_its_figures(tmp_path: Path):
    async with shown(tmp_path) as there:
        found = await told(there)
        names = [name for name, _ in found]
        assert names[0] == "route" and names[-1] == "done" and set(names[1:-1]) == {"text"}
        hops = found[0][1]["hops"]
        assert [hop["blocks"] for hop in hops] == ["0:3", "3:6"] and found[0][1]["shape"] is None
        done = found[-1][1]
        assert done["tokens"] == found[-2][1]["tokens"] == 12 and done["finish_reason"] in ("length", "stop")
        assert done["route"] == {"hops": hops, "shape": "ring"} and done["failovers"] == 0
        assert done["ttft_ms"] > 0 and done["tokens_per_s"] > 0
        assert [row["peer"] for row in done["waterfall"]] == [hop["peer"] for hop in hops]
        assert all(row[part] >= 0 for row in done["waterfall"] for part in ("queue_ms", "compute_ms", "network_ms"))
        assert there.trials.running == 0
        await there.swarm.empty()


async def test_a_gap_is_told_at_once(tmp_path: Path):
    async with shown(tmp_path, spans=[(0, 3)]) as there:
        ((name, error),) = await told(there)
        assert (
            name == "error" and error["message"].startswith("nobody serves blocks 3:6") and error["retry_after_s"] == 5
        )
        assert there.trials.running == 0


async def test_a_peer_that_dies_in_mid_answer_is_an_error_without_addresses(tmp_path: Path):
    async with served(tmp_path) as there:
        for peer in there.swarm.peers:
            peer.engine.step_s = 0.02
        lines: list[str] = []
        async with there.http.stream("POST", "/api/v1/try", json={**ASK, "max_tokens": 100}) as stream:
            async for line in stream.aiter_lines():
                lines.append(line)
                if line == "event: text" and lines.count(line) == 3:
                    await there.swarm.stop(1)
        (error,) = [line for before, line in pairwise(lines) if before == "event: error"]
        assert "127.0.0.1" not in "".join(lines) and "nobody serves blocks 3:6" in error


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 10_000, "not JSON"),
        (b"[]", "expected a JSON object"),
        (b"{}", "prompt must be"),
        (json.dumps({"prompt": ["x"]}).encode(), "prompt must be"),
        (json.dumps({"prompt": " \n"}).encode(), "prompt must be"),
        (json.dumps({"prompt": "x" * (MAX_PROMPT + 1)}).encode(), "prompt must be"),
        (json.dumps({"prompt": "x", "max_tokens": 129}).encode(), "max_tokens must be"),
        (json.dumps({"prompt": "x", "max_tokens": 0}).encode(), "max_tokens must be"),
        (json.dumps({"prompt": "x", "max_tokens": True}).encode(), "max_tokens must be"),
        (json.dumps({"prompt": "x", "max_tokens": 1.5}).encode(), "max_tokens must be"),
        (json.dumps({"prompt": "x", "model": 7}).encode(), "model must be"),
    ],
)
async def test_what_cannot_be_meant_is_a_400(tmp_path: Path, body: bytes, complaint: str):
    async with shown(tmp_path) as there:
        answer = await there.http.post("/api/v1/try", content=body)
        assert answer.status_code == 400 and complaint in answer.json()["error"]["message"]


async def test_too_large_or_unknown_or_not_offered(tmp_path: Path):
    async with shown(tmp_path) as there:
        assert (await there.http.post("/api/v1/try", content=b"x" * 20_000)).status_code == 413
        unknown = await there.http.post("/api/v1/try", json={**ASK, "model": "f" * 32})
        assert unknown.status_code == 404
        assert (await told(there, model=MODEL.fingerprint))[-1][0] == "done"
    (tmp_path / "other").mkdir()
    async with shown(tmp_path / "other", try_it=False) as there:
        assert (await there.http.get("/api/v1/swarm")).json()["try"] is None
        assert (await there.http.post("/api/v1/try", json=ASK)).status_code == 403


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403)]
)
async def test_another_sites_page_may_not_use_its_visitors(tmp_path: Path, site: str, status: int):
    async with shown(tmp_path) as there:
        answer = await there.http.post("/api/v1/try", json={**ASK, "max_tokens": 1}, headers={"sec-fetch-site": site})
        assert answer.status_code == status


async def test_half_a_surrogate_is_no_prompt_that_breaks_anything(tmp_path: Path):
    async with shown(tmp_path) as there:
        answer = await there.http.post("/api/v1/try", content=b'{"prompt": "\\ud800", "max_tokens": 2}')
        assert answer.status_code == 200 and events(answer.text)[-1][0] == "error"


async def test_each_caller_gets_few_a_minute(tmp_path: Path):
    async with shown(tmp_path, try_per_minute=1) as there:
        statuses = [(await there.http.post("/api/v1/try", json={**ASK, "max_tokens": 1})).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = await there.http.post("/api/v1/try", json=ASK)
        assert int(refused.headers["retry-after"]) > 1 and refused.json()["error"]["retry_after_s"] > 1


async def test_few_are_made_at_a_time_and_a_browser_that_goes_gives_its_seats_back(tmp_path: Path):
    async with served(tmp_path, try_at_once=1) as there:
        for peer in there.swarm.peers:
            peer.engine.step_s = 0.02
        async with there.http.stream("POST", "/api/v1/try", json={**ASK, "max_tokens": 120}) as stream:
            lines = stream.aiter_lines()
            while not (await anext(lines)).startswith("event: text"):
                pass
            full = await there.http.post("/api/v1/try", json=ASK)
            assert full.status_code == 429 and "are being made for others" in full.json()["error"]["message"]
            assert there.swarm.seats == 2
        await there.swarm.empty()
        async with asyncio.timeout(5):
            while there.trials.running:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_who_asks_at_the_same_time_does_not_race_for_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    at_once: list[int] = []
    inside = 0

    def slow(codec: Codec) -> bool:
        nonlocal inside
        inside += 1
        at_once.append(inside)
        time.sleep(0.01)  # on a thread: what it holds up is other threads' chance
        inside -= 1
        return False

    monkeypatch.setattr(trial, "_chats", slow)
    async with shown(tmp_path, try_at_once=4) as there:
        found = await asyncio.gather(*(told(there, max_tokens=1) for _ in range(3)))
        assert [events[-1][0] for events in found] == ["done"] * 3 and at_once == [1, 1, 1]


async def test_browsers_that_vanish_at_any_moment_leave_nothing(tmp_path: Path):
    async with served(tmp_path, try_per_minute=6000, try_at_once=50) as there:

        async def visit(stay_s: float) -> None:
            try:
                async with asyncio.timeout(stay_s), httpx.AsyncClient(base_url=there.url, timeout=20) as http:
                    await http.post("/api/v1/try", json={**ASK, "max_tokens": 60})
            except TimeoutError:
                pass

        await asyncio.gather(*(visit(0.003 * number) for number in range(20)))
        await there.swarm.empty()
        async with asyncio.timeout(10):
            while there.trials.running:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (NoRoute("10.0.0.1:4 is banned", (Span(2, 4),)), 503, "nobody serves blocks 2:4 now"),
        (NoRoute("10.0.0.1:4 is banned"), 503, "no route"),
        (UsageError("the prompt is too long"), 400, "the prompt is too long"),
        (Refused("10.0.0.1:4 is full", 2.0), 503, "no room"),
        (Draining("10.0.0.1:4 leaves"), 503, "leaving"),
        (Timeout("10.0.0.1:4 is slow"), 504, "too long"),
        (DeadLink("10.0.0.1:4 is dead"), 502, "a peer failed (dead link)"),
        (SwarmUnreachable("10.0.0.1:4"), 503, "cannot be reached"),
        (ModelNotFound("10.0.0.1:4"), 502, "cannot be used"),
    ],
)
def test_errors_are_told_without_peers_words(error: ShoalError, status: int, says: str):
    told = explain(error)
    assert told.status == status and says in str(told) and "10.0.0.1" not in str(told)


def test_a_waterfall_is_medians_and_the_networks_even_share():
    hops = [
        (HopTrace("a" * 32, Span(0, 3), 0.001, compute), HopTrace("b" * 32, Span(3, 6), 0.0, 0.002))
        for compute in (0.002, 0.004, 0.003)
    ]
    steps = [StepTrace(0, 1, 1.0, hops[0]), *(StepTrace(n, 1, 0.010, hop) for n, hop in enumerate(hops, 1))]
    rows = waterfall(Trace(tuple(steps), "ring"), {"a" * 32: "kitchen"}.get)  # type: ignore[arg-type]
    assert [row["compute_ms"] for row in rows] == [3.0, 2.0] and rows[0]["queue_ms"] == 1.0
    assert rows[0]["network_ms"] == rows[1]["network_ms"] == 2.0
    assert rows[0]["name"] == "kitchen" and rows[0]["blocks"] == "0:3"
    assert waterfall(None, str) == [] == waterfall(Trace((), "ring"), str)
