"""History: how the swarm did, a point every ``STEP_S``, for a week. SQLite in a file, or in memory.

All of SQLite runs on one thread of its own, so that a slow disk holds nobody up. A file that fails while the dashboard
runs costs points, and nothing else. One file may hold several swarms, told apart by ``swarm``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from swarm.address import JoinAddress
from swarm.errors import UsageError

T = TypeVar("T")
Json = dict[str, Any]

STEP_S = 10
KEEP_S = 7 * 86400
MAX_MINUTES = KEEP_S // 60
MAX_POINTS = 720  # of one answer: longer times come in longer steps
BUSY_S = 2.0  # for another dashboard that writes to the same file
TIDY_EVERY = 360  # points

_SCHEMA = """
CREATE TABLE IF NOT EXISTS points (
    swarm TEXT NOT NULL, at INTEGER NOT NULL,
    tokens_per_s REAL NOT NULL, sessions INTEGER NOT NULL, peers INTEGER NOT NULL, min_replicas INTEGER NOT NULL,
    PRIMARY KEY (swarm, at)
) WITHOUT ROWID
"""

log = logging.getLogger("dashboard.history")


def default_file() -> Path:
    """``~/.local/state/shoal/dashboard.sqlite``, or below $XDG_STATE_HOME."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "shoal" / "dashboard.sqlite"


def swarm_key(join: Sequence[str]) -> str:
    """What a swarm is called in a file that others share: by whom it was joined through, wherever those are now."""
    peers = sorted({JoinAddress.parse(text).peer_id for text in join})
    return hashlib.sha256(" ".join(peers).encode()).hexdigest()[:16]


class History:
    """``open``, then ``add`` and ``read``, then ``close``."""

    def __init__(self, database: sqlite3.Connection, thread: ThreadPoolExecutor, swarm: str):
        self._database, self._thread, self._swarm = database, thread, swarm
        self._added = 0
        self._failing = False

    @classmethod
    async def open(cls, path: Path | None, swarm: str = "") -> History:
        """None: in memory. Raises UsageError for a file that cannot be used."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        try:
            database = await asyncio.get_running_loop().run_in_executor(thread, _open, path)
        except (OSError, sqlite3.Error) as error:
            thread.shutdown(wait=False)
            raise UsageError(f"--history {path} cannot be used: {error}; name another file, or none") from None
        return cls(database, thread, swarm)

    async def add(self, point: Json) -> None:
        """Keep one point: a later one of the same step replaces it."""
        step = int(point["at"]) // STEP_S * STEP_S
        row = (
            self._swarm, step, point["tokens_per_s"], point["sessions"], point["peers"], point["min_replicas"]
        )  # fmt: skip
        self._added += 1
        await self._call(self._write, row, step - KEEP_S if self._added % TIDY_EVERY == 1 else None)

    async def read(self, minutes: int, wall: float) -> Json:
        """The body of ``/api/v1/history``: means over steps; a step in which nothing was seen is left out."""
        seconds = min(max(1, minutes), MAX_MINUTES) * 60
        step_s = STEP_S * math.ceil(seconds / STEP_S / MAX_POINTS)
        rows: list[tuple[Any, ...]] = await self._call(self._select, int(wall) - seconds, step_s) or []
        points = [
            {
                "at": at, "tokens_per_s": round(tokens_per_s, 2), "sessions": round(sessions), "peers": round(peers),
                "min_replicas": min_replicas,
            }
            for at, tokens_per_s, sessions, peers, min_replicas in rows
        ]  # fmt: skip
        return {"step_s": step_s, "points": points}

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T | None:
        """None where the file fails, which is logged once until it works again."""
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except sqlite3.Error as error:
            if not self._failing:
                log.warning("the history cannot be kept now: %s", error)
            self._failing = True
            return None
        self._failing = False
        return result

    def _write(self, row: tuple[Any, ...], oldest: int | None) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?)", row)
            if oldest is not None:
                self._database.execute("DELETE FROM points WHERE at < ?", (oldest,))

    def _select(self, since: int, step_s: int) -> list[tuple[Any, ...]]:
        return self._database.execute(
            "SELECT at / ? * ? AS step, avg(tokens_per_s), avg(sessions), avg(peers), min(min_replicas) FROM points"
            " WHERE swarm = ? AND at >= ? GROUP BY step ORDER BY step",
            (step_s, step_s, self._swarm, since),
        ).fetchall()


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(":memory:" if path is None else path, timeout=BUSY_S, check_same_thread=False)
    try:
        if path is not None:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
        database.execute(_SCHEMA)
        database.execute("SELECT at, tokens_per_s, sessions, peers, min_replicas FROM points LIMIT 1").fetchall()
        database.commit()
    except BaseException:
        database.close()
        raise
    return database
