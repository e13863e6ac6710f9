"""The dashboard under "/" of a gateway: whose a request is, and that keys and drains of one are not the other's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from dashboard import house as dashboards
from dashboard.config import DashboardConfig
from gateway.app import build_app
from gateway.config import GatewayConfig
from gateway.keys import Keyring, read_keys
from gateway.limits import Limits
from gateway.mount import Mounted
from swarm.clock import SystemClock
from tests.gateway.house import House, house
from tests.support.hash_engine import MODEL


@asynccontextmanager
async def both(tmp_path: Path, keyring: Keyring | None = None, **choices: Any) -> AsyncIterator[tuple[House, Any]]:
    config = DashboardConfig(history=None, **choices)
    async with (
        house(tmp_path, config=GatewayConfig(), keyring=keyring) as there,
        dashboards.opened(config, there.swarm.directory, SystemClock()) as board,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(build_app(there.desk, board.app)), base_url="http://gateway"
        ) as http,
    ):
        there.http = http
        yield there, board


async def test_each_path_has_one_owner_and_the_gateways_routes_win(tmp_path: Path):
    async with both(tmp_path) as (there, _):
        swarm = await there.http.get("/api/v1/swarm")
        assert swarm.json()["models"][0]["name"] == MODEL.name and "content-security-policy" in swarm.headers
        assert "x-request-id" not in swarm.headers
        for path in ("/v1/models", "/health", "/healthz", "/readyz", "/metrics", "/openapi.json"):
            mine = await there.http.get(path)
            assert mine.status_code == 200 and "x-request-id" in mine.headers, path
        missing = await there.http.get("/nowhere")
        assert missing.status_code == 404 and "code" in missing.json()["error"]


async def test_a_route_that_both_have_is_the_gateways():
    def named(name: str) -> Starlette:
        async def say(request: Request) -> PlainTextResponse:
            return PlainTextResponse(name)

        return Starlette(routes=[Route("/api/v1/swarm", say), Route("/", say)])

    gateway, dashboard = named("gateway"), named("dashboard")
    for routes, owner in ((gateway.routes, "gateway"), ((), "dashboard")):
        mounted = Mounted(gateway, routes, dashboard)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url="http://both") as http:
            assert (await http.get("/api/v1/swarm")).text == owner == (await http.get("/")).text


async def test_keys_are_asked_for_where_answers_are_made_and_not_for_the_page(tmp_path: Path):
    keyring = read_keys(None, {"SHOAL_API_KEYS": "me sk-secret-key-0123456789"}, Limits())
    async with both(tmp_path, keyring, try_it=False) as (there, _):
        assert (await there.http.get("/v1/models")).status_code == 401
        assert (await there.http.get("/api/v1/swarm")).status_code == 200
        assert (await there.http.post("/api/v1/try", json={"prompt": "x"})).status_code == 403


async def test_the_dashboard_is_shown_while_the_gateway_drains(tmp_path: Path):
    async with both(tmp_path) as (there, board):
        await there.desk.drain()
        assert (await there.http.get("/v1/models")).status_code == 503
        assert (await there.http.get("/api/v1/swarm")).status_code == 200
        board.hang_up()
        assert (await there.http.get("/api/v1/events")).status_code == 503


async def test_without_one_its_paths_are_nobodys(tmp_path: Path):
    async with house(tmp_path) as there:
        for path in ("/", "/api/v1/swarm", "/static/app.js"):
            assert (await there.http.get(path)).status_code == 404
