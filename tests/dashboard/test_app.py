"""Every route, over peers in this process."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboard.app import owns
from dashboard.callers import caller_of
from dashboard.responses import CSP
from tests.dashboard.house import Shown, served, shown
from tests.support.hash_engine import MODEL


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Shown]:
    async with shown(tmp_path) as made:
        yield made


async def until(what: Any, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_the_swarm_as_json(there: Shown):
    answer = await there.http.get("/api/v1/swarm")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["models"][0]["fingerprint"] == MODEL.fingerprint and body["try"] == {"max_tokens": 128}
    assert set(body) == {"at", "version", "ttl_s", "try", "models", "peers", "links", "totals"}


async def test_peers_and_one_of_them(there: Shown):
    peers = (await there.http.get("/api/v1/peers")).json()["peers"]
    assert [peer["span"] for peer in peers] == ["0:3", "3:6"] and all(peer["address"] is None for peer in peers)
    one = (await there.http.get(f"/api/v1/peers/{peers[1]['id']}")).json()
    assert one["id"] == peers[1]["id"] and one["links"] == [] and isinstance(one["history"], list)
    for stranger in ("f" * 32, "x", "..%2f..%2fetc%2fpasswd", "0" * 400):
        missing = await there.http.get(f"/api/v1/peers/{stranger}")
        assert missing.status_code == 404 and set(missing.json()["error"]) == {"message", "retry_after_s"}


@pytest.mark.parametrize("minutes", ["0", "-1", "x", "1e3", "99999999", "", "10081", "６０"])
async def test_a_history_of_no_length_is_refused(there: Shown, minutes: str):
    answer = await there.http.get("/api/v1/history", params={"minutes": minutes})
    assert answer.status_code == 400 and "minutes must be" in answer.json()["error"]["message"]


async def test_the_history_has_a_first_point_soon(there: Shown):
    await until(lambda: there.board.point is not None)
    body = (await there.http.get("/api/v1/history")).json()
    assert body["step_s"] == 10 and len(body["points"]) in (1, 2)
    assert set(body["points"][0]) == {"at", "tokens_per_s", "sessions", "peers", "min_replicas"}


async def test_every_answer_has_the_headers_that_protect(there: Shown):
    for path in ("/", "/peer/x", "/api/v1/swarm", "/static/none.js", "/nope", "/api/v1/peers/x", "/healthz"):
        headers = (await there.http.get(path)).headers
        assert headers["content-security-policy"] == CSP and "default-src 'none'" in CSP
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "camera=()" in headers["permissions-policy"]


async def test_the_page_is_the_same_for_every_view(tmp_path: Path):
    static = tmp_path / "static"
    static.mkdir()
    (static / "index.html").write_text("<!doctype html><title>Shoal</title>")
    (static / "app.js").write_text("1")
    (tmp_path / "secret").write_text("no")
    async with shown(tmp_path, static=static) as there:
        for path in ("/", "/peer/" + "a" * 32):
            page = await there.http.get(path)
            assert page.text.startswith("<!doctype html>") and page.headers["content-type"].startswith("text/html")
        script = await there.http.get("/static/app.js")
        assert script.status_code == 200 and "javascript" in script.headers["content-type"]
        again = await there.http.get("/static/app.js", headers={"if-none-match": script.headers["etag"]})
        assert again.status_code == 304
        for path in ("/static/../secret", "/static/%2e%2e/secret", "/static/..%2fsecret"):
            assert (await there.http.get(path)).status_code == 404


async def test_only_reading_and_trying_are_there(there: Shown):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/api/v1/swarm", "/api/v1/peers", "/", "/api/v1/history"):
            answer = await there.http.request(method, path)
            assert answer.status_code == 405 and "error" in answer.json()
    assert (await there.http.get("/api/v1/try")).status_code == 405
    for path in ("/api/v1/swarm", "/api/v1/events"):
        head = await there.http.head(path)
        assert head.status_code == 200 and head.content == b""


async def test_health(there: Shown):
    assert (await there.http.get("/healthz")).json() == {"status": "ok"}
    assert (await there.http.get("/readyz")).status_code == 200
    there.board._sightings.in_touch = False
    assert (await there.http.get("/readyz")).status_code == 503


async def test_who_asks_too_often_is_told_when_to_come_again(tmp_path: Path):
    async with shown(tmp_path, requests_per_minute=60) as there:
        statuses = [(await there.http.get("/api/v1/swarm")).status_code for _ in range(12)]
        assert statuses == [200] * 10 + [429] * 2
        refused = await there.http.get("/api/v1/history")
        assert int(refused.headers["retry-after"]) >= 1 and refused.json()["error"]["retry_after_s"] > 0
        assert (await there.http.get("/healthz")).status_code == 200


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


async def test_events_begin_with_the_swarm_and_follow_it(tmp_path: Path):
    async with served(tmp_path) as there, there.http.stream("GET", "/api/v1/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = _events(stream.aiter_lines())
        name, first = await anext(events)
        assert name == "swarm" and first["models"][0]["state"] == "fragile"
        await there.swarm.stop(1)
        async for name, body in events:
            if name == "swarm" and body["models"][0]["state"] == "broken":
                assert body["models"][0]["gaps"] == ["3:6"]
                break


async def test_streams_are_few_and_given_back(tmp_path: Path):
    async with served(tmp_path, max_streams=3, max_streams_each=2) as there:
        async with there.http.stream("GET", "/api/v1/events") as one, there.http.stream("GET", "/api/v1/events") as two:
            assert one.status_code == two.status_code == 200
            third = await there.http.get("/api/v1/events")
            assert third.status_code == 429 and third.headers["retry-after"] == "5"
        for _ in range(100):
            answer = there.http.stream("GET", "/api/v1/events")
            async with answer as again:
                if again.status_code == 200:
                    break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("a reader that left keeps its place")


async def test_a_reader_that_does_not_read_is_dropped(tmp_path: Path):
    async with served(tmp_path, send_buffer=4096, write_timeout_s=0.3) as there:
        host, port = there.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            lazy.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: _streams(there) == 1)
            there.board.body = b'{"padding":"' + b"x" * 4_000_000 + b'"}'
            there.board.version += 1
            there.board._wake()
            await until(lambda: _streams(there) == 0)


def _streams(there: Shown) -> int:
    """Open event streams, by what the routes count."""
    route = next(r for r in there.app._app.routes if getattr(r, "path", "") == "/api/v1/events")
    return route.endpoint.__self__._streams.total()


async def test_hanging_up_ends_streams(tmp_path: Path):
    async with served(tmp_path) as there, there.http.stream("GET", "/api/v1/events") as stream:
        events = _events(stream.aiter_lines())
        await anext(events)
        there.board.hang_up()
        async with asyncio.timeout(5):
            assert [name async for name, _ in events] in ([], ["history"], ["swarm"])
        assert (await there.http.get("/api/v1/events")).status_code == 503


def test_what_is_the_dashboards_where_it_shares_a_server():
    assert all(owns(path) for path in ("/", "/api/v1/swarm", "/static/app.js", "/peer/x"))
    assert not any(owns(path) for path in ("/v1/models", "/health", "/docs", "/metrics", "/api/v2/x", "//", "/peers"))


@pytest.mark.parametrize(
    ("client", "caller"),
    [
        (("203.0.113.9", 1), "203.0.113.9"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("::ffff:203.0.113.9", 1), "203.0.113.9"),
        (("testclient" * 20, 1), ("testclient" * 20)[:64]),
        (None, "unknown"),
    ],
)
def test_a_caller_is_an_address_or_a_household(client: Any, caller: str):
    from starlette.requests import HTTPConnection

    assert caller_of(HTTPConnection({"type": "http", "headers": [], "client": client})) == caller


async def test_hostile_paths_and_queries_get_plain_errors(there: Shown):
    for path in ("/api/v1/peers/%00", "/api/v1/%ff", "/peer/%2e%2e", "/static/%00", "/api/v1/history?minutes=%00"):
        answer = await there.http.get(path)
        assert answer.status_code in (200, 400, 404), path
        if "json" in answer.headers["content-type"]:
            assert "<script" not in answer.text
    with pytest.raises(httpx.InvalidURL):
        await there.http.get("/api/v1/swarm?\x00")
