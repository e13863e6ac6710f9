"""Sources: where ``shoal top`` has its picture from: the swarm itself, or a dashboard or gateway that shows it.

Both give the JSON of ``/api/v1/swarm``. A source that fails raises a ShoalError, and may be asked again.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from shoal.plain import plain
from shoal.snapshot import read_past
from swarm.errors import BadRequest, SwarmUnreachable, UsageError

ASK_S = 5.0
PAST_MINUTES = 60
MAX_BODY_BYTES = 8 << 20  # a thousand peers are about one


class Source(Protocol):
    """``name`` is for people."""

    name: str

    async def body(self) -> dict[str, Any]:
        """The picture of now. Raises SwarmUnreachable where there is none newer, BadRequest for one that is none."""
        ...

    async def past(self) -> tuple[float, ...]:
        """Tokens/s of the last hour, oldest first, as far as the source knows; a step is ``STEP_S``."""
        ...


@asynccontextmanager
async def of_swarm(join: Sequence[str], settle_s: float = 0.0) -> AsyncGenerator[Source]:
    """Joins as a client and asks the peers itself, as a dashboard does. Speeds are known once every peer was asked
    twice, for which ``settle_s`` is waited. Raises SwarmUnreachable, UsageError."""
    await asyncio.to_thread(importlib.import_module, "dht.node")  # seconds: hivemind imports torch
    from dashboard.board import Board
    from dashboard.config import DashboardConfig
    from dashboard.history import History
    from dht.node import HivemindDirectory
    from swarm.clock import SystemClock

    config = DashboardConfig(join=tuple(join), public_join=tuple(join[:1]), history=None, try_it=False)
    directory = await HivemindDirectory.create(join=join, client_mode=True)
    try:
        history = await History.open(None)
        try:
            async with Board(directory, config, SystemClock(), history) as board:
                await asyncio.sleep(settle_s)
                yield _Swarm(board, f"through {join[0]}")
        finally:
            await history.close()
    finally:
        await directory.close()


class _Swarm:
    def __init__(self, board: Any, name: str):
        self._board, self.name = board, name

    async def body(self) -> dict[str, Any]:
        picture = self._board.picture
        if not self._board.in_touch and not any(peer["reachable"] for peer in picture["peers"]):
            raise SwarmUnreachable("nobody in the swarm answers any more")
        return picture

    async def past(self) -> tuple[float, ...]:
        return read_past(await self._board.history.read(PAST_MINUTES, self._board.clock.wall()))


@asynccontextmanager
async def of_url(url: str) -> AsyncGenerator[Source]:
    """``url`` is that of a dashboard or a gateway. Raises UsageError for what is none."""
    import aiohttp

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--url {plain(url, 80)!r} is no URL of a dashboard; write for example http://127.0.0.1:8080")
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=True) as http:
        yield _Url(http, f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")


class _Url:
    def __init__(self, http: Any, name: str):
        self._http, self.name = http, name

    async def body(self) -> dict[str, Any]:
        return await self._get("/api/v1/swarm")

    async def past(self) -> tuple[float, ...]:
        return read_past(await self._get(f"/api/v1/history?minutes={PAST_MINUTES}"))

    async def _get(self, path: str) -> Any:
        import aiohttp

        try:
            async with self._http.get(self.name + path) as answer:
                if answer.status != 200:
                    hint = "; is that the address of a dashboard or a gateway?" if answer.status == 404 else ""
                    raise SwarmUnreachable(f"{self.name} answers {path} with status {answer.status}{hint}")
                body = await answer.content.read(MAX_BODY_BYTES + 1)
                while len(body) <= MAX_BODY_BYTES and (more := await answer.content.read(MAX_BODY_BYTES)):
                    body += more
        except TimeoutError as error:
            raise SwarmUnreachable(f"{self.name} did not answer within {ASK_S:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a URL that aiohttp cannot read
            raise SwarmUnreachable(f"{self.name} cannot be asked: {plain(str(error), 160)}") from error
        if len(body) > MAX_BODY_BYTES:
            raise BadRequest(f"{self.name}{path} sends more than {MAX_BODY_BYTES >> 20} MiB; that is no picture")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"{self.name}{path} does not answer in JSON; is it a dashboard or a gateway?") from error
