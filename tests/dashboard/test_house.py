"""A whole dashboard with its lifetime, as a server or a gateway opens it."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest

from dashboard.config import DashboardConfig
from dashboard.history import History, swarm_key
from dashboard.house import opened
from dht.memory import MemoryDirectory, MemoryStore
from swarm.clock import SystemClock
from swarm.errors import UsageError

MADDR = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"


def nobody() -> MemoryDirectory:
    return MemoryDirectory(MemoryStore(SystemClock()))


async def points_of(path: Path, swarm: str) -> int:
    history = await History.open(path, swarm)
    found = await history.read(60, SystemClock().wall())
    await history.close()
    return len(found["points"])


async def test_the_past_is_kept_where_it_was_said_for_this_swarm_alone_or_by_the_swarms_key(tmp_path: Path):
    for own, key in ((True, ""), (False, swarm_key([MADDR]))):
        path = tmp_path / f"{own}.sqlite"
        config = DashboardConfig(join=(MADDR,), history=path, own_history=own)
        async with opened(config, nobody(), SystemClock()) as house:
            while house.board.point is None:
                await house.board.news()
        assert await points_of(path, key) == 1 and await points_of(path, "other") == 0


async def test_a_file_that_was_named_has_to_be_usable_and_the_default_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(UsageError, match="--history"):
        async with opened(DashboardConfig(history=tmp_path, own_history=True), nobody(), SystemClock()):
            pass
    with caplog.at_level(logging.WARNING):
        async with opened(DashboardConfig(history=tmp_path), nobody(), SystemClock()) as house:
            transport = httpx.ASGITransport(house.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://dashboard") as http:
                assert (await http.get("/api/v1/history")).status_code == 200
                assert (await http.get("/api/v1/swarm")).json()["models"] == []
                tried = await http.post("/api/v1/try", json={"prompt": "x"})
                assert tried.status_code == 404 and "nobody serves a model now" in tried.text
            house.hang_up()
            assert house.board.closing
    assert "kept in memory" in caplog.text
