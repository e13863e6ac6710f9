from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from peer.metrics import Metrics
from peer.server import GrpcServer, HttpServer
from swarm.address import Address
from swarm.errors import AddressInUse, FaultCode, UsageError

ANY = Address("127.0.0.1", 0)


@pytest.fixture
async def http() -> AsyncIterator[tuple[HttpServer, Address, dict[str, Any]]]:
    said: dict[str, Any] = {"state": "JOINING"}
    server = HttpServer(lambda: said, lambda: said["state"] == "READY")
    try:
        yield server, await server.start(ANY), said
    finally:
        await server.stop()


async def test_a_busy_grpc_port_is_noticed_at_once():
    first, second = GrpcServer(), GrpcServer()
    taken = await first.bind(ANY)
    with pytest.raises(AddressInUse, match=f"{taken} is in use by another process; choose another port"):
        await second.bind(taken)
    await first.stop(0)
    await second.stop(0)


@pytest.mark.parametrize("host", ["192.0.2.1", "unix", "nowhere.invalid"])
async def test_a_host_that_is_not_ours_is_a_mistake_of_usage_and_not_a_port_in_use(host: str):
    server = GrpcServer()
    with pytest.raises(UsageError, match=f"cannot listen on {host}:4000"):
        await server.bind(Address(host, 4000))
    await server.stop(0)
    with pytest.raises(UsageError, match=f"cannot listen on {host}:4000"):
        await HttpServer(dict, lambda: True).start(Address(host, 4000))


async def test_healthz_lives_before_readyz_is_ready(http: tuple[HttpServer, Address, dict[str, Any]]):
    _, address, said = http
    async with aiohttp.ClientSession(f"http://{address}") as session:
        for state, expected in (("JOINING", 503), ("READY", 200), ("DRAINING", 503)):
            said["state"] = state
            async with session.get("/healthz") as alive, session.get("/readyz") as ready:
                assert (alive.status, ready.status) == (200, expected)
                assert (await ready.json())["state"] == state
        async with session.get("/etc/passwd") as other:
            assert other.status == 404


async def test_a_busy_http_port_is_noticed_at_once(http: tuple[HttpServer, Address, dict[str, Any]]):
    _, taken, said = http
    with pytest.raises(AddressInUse, match=f"{taken} is in use by another process; choose another port"):
        await HttpServer(lambda: said, lambda: True).start(taken)


async def test_metrics_are_what_prometheus_asked_for():
    metrics = Metrics("1.2.3")
    server = HttpServer(dict, lambda: True, metrics.render)
    address = await server.start(ANY)
    try:
        metrics.refused(FaultCode.REFUSED)
        async with aiohttp.ClientSession(f"http://{address}") as session:
            async with session.get("/metrics") as plain:
                assert (plain.status, plain.headers["Content-Type"]) == (
                    200,
                    "text/plain; version=0.0.4; charset=utf-8",
                )
                assert 'shoal_peer_refusals_total{code="refused"} 1.0\n' in await plain.text()
            accept = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"}
            async with session.get("/metrics", headers=accept) as open_metrics:
                assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
                assert (await open_metrics.text()).endswith("# EOF\n")
            async with session.post("/metrics") as wrong, session.get("/metrics/x") as unknown:
                assert (wrong.status, unknown.status) == (405, 404)
    finally:
        await server.stop()


async def test_without_metrics_there_is_no_such_page(http: tuple[HttpServer, Address, dict[str, Any]]):
    _, address, _ = http
    async with aiohttp.ClientSession(f"http://{address}") as session, session.get("/metrics") as response:
        assert response.status == 404
