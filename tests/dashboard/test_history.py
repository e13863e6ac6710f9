from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dashboard.history import KEEP_S, MAX_POINTS, STEP_S, TIDY_EVERY, History, default_file, swarm_key
from swarm.errors import UsageError

START = 1_763_667_000
P2P = "12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"


def a_point(at: float, tokens_per_s: float = 10.0, min_replicas: int = 2) -> dict[str, Any]:
    return {"at": at, "tokens_per_s": tokens_per_s, "sessions": 3, "peers": 4, "min_replicas": min_replicas}


async def test_points_come_back_and_gaps_stay_gaps(tmp_path: Path):
    history = await History.open(tmp_path / "deep" / "history.sqlite")
    for at in (START + 0.3, START + 10.2, START + 50.1):
        await history.add(a_point(at))
    found = await history.read(60, START + 60)
    assert found["step_s"] == STEP_S
    assert found["points"] == [a_point(at) for at in (START, START + 10, START + 50)]
    assert (await history.read(1, START + 100))["points"] == [a_point(START + 50)]
    await history.close()


async def test_it_survives_a_restart_and_two_swarms_in_one_file(tmp_path: Path):
    path = tmp_path / "history.sqlite"
    one, other = await History.open(path, "one"), await History.open(path, "other")
    await one.add(a_point(START))
    await other.add(a_point(START, tokens_per_s=99.0))
    await one.close()
    await other.close()
    again = await History.open(path, "one")
    assert (await again.read(60, START + 60))["points"] == [a_point(START)]
    await again.close()


async def test_long_times_come_in_long_steps():
    history = await History.open(None)
    for number in range(120):
        await history.add(a_point(START + number * STEP_S, tokens_per_s=number, min_replicas=2 if number % 6 else 0))
    found = await history.read(KEEP_S // 60, START + 1200)
    assert found["step_s"] * MAX_POINTS >= KEEP_S and len(found["points"]) < 20
    middle = found["points"][len(found["points"]) // 2]
    assert middle["min_replicas"] == 0 and middle["tokens_per_s"] % 1 in (0, 0.5)
    await history.close()


async def test_what_is_old_is_dropped(tmp_path: Path):
    path = tmp_path / "history.sqlite"
    history = await History.open(path)
    await history.add(a_point(START - KEEP_S - 100))
    for number in range(TIDY_EVERY + 1):
        await history.add(a_point(START + number * STEP_S))
    await history.close()
    with sqlite3.connect(path) as database:
        (oldest,) = database.execute("SELECT min(at) FROM points").fetchone()
    database.close()
    assert oldest == START


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
async def test_a_file_that_cannot_be_used_is_said_so(tmp_path: Path, content: bytes | None):
    path = tmp_path / "history"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"--history .* cannot be used"):
        await History.open(path)


async def test_a_table_of_another_make_is_refused(tmp_path: Path):
    path = tmp_path / "history.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE points (something TEXT)")
    database.close()
    with pytest.raises(UsageError):
        await History.open(path)


async def test_a_file_that_fails_later_costs_points_only(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "history.sqlite"
    history = await History.open(path)
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE points")
    database.close()
    await history.add(a_point(START))
    await history.add(a_point(START))
    assert await history.read(60, START) == {"step_s": STEP_S, "points": []}
    assert len([record for record in caplog.records if "history" in record.message]) == 1, "told once"
    await history.close()


def test_a_swarm_keeps_its_key_when_its_peers_move():
    home, moved = f"/ip4/203.0.113.7/tcp/1/p2p/{P2P}", f"/ip4/198.51.100.1/tcp/2/p2p/{P2P}"
    assert swarm_key([home]) == swarm_key([moved, home]) != swarm_key([])


def test_the_default_is_below_the_users_state(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_file() == Path("/state/shoal/dashboard.sqlite")
