from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from peer.config import Address
from peer.server import GrpcServer, HttpServer
from swarm.errors import AddressInUse

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
    taken = first.bind(ANY)
    with pytest.raises(AddressInUse, match=f"cannot listen on {taken}; .* choose another --listen"):
        second.bind(taken)
    await first.stop(0)
    await second.stop(0)


async def test_a_host_that_is_not_ours_is_an_error_of_one_line():
    server = GrpcServer()
    with pytest.raises(AddressInUse, match=r"cannot listen on 192\.0\.2\.1"):
        server.bind(Address("192.0.2.1", 4000))
    await server.stop(0)


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
    with pytest.raises(AddressInUse, match=f"cannot listen on {taken} .* choose another --http"):
        await HttpServer(lambda: said, lambda: True).start(taken)
