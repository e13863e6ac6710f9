from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from peer.server import GrpcServer, HttpServer
from swarm.address import Address
from swarm.errors import AddressInUse, UsageError

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
