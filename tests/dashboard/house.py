"""A dashboard over hash peers in this process: by httpx without a socket, or on a real port."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from client import AsyncClient
from dashboard import web
from dashboard.app import build_app
from dashboard.board import Board
from dashboard.config import DashboardConfig
from dashboard.history import History
from dashboard.trial import Trials
from swarm.clock import SystemClock
from tests.client.loopback import Loopback

SPANS = [(0, 3), (3, 6)]


@dataclass
class Shown:
    """One dashboard. ``url`` where it is served on a port."""

    swarm: Loopback
    board: Board
    trials: Trials
    http: httpx.AsyncClient
    app: Any
    url: str = ""


@asynccontextmanager
async def shown(
    tmp_path: Path, spans: Sequence[tuple[int, int]] = SPANS, static: Path | None = None, **choices: Any
) -> AsyncGenerator[Shown]:
    async with Loopback(spans, tmp_path / "assets") as swarm:
        history = await History.open(None)

        def make(fingerprint: str) -> AsyncClient:
            config = replace(swarm.config, trace=True)
            return AsyncClient(model=fingerprint, config=config, directory=swarm.directory)

        async with Board(swarm.directory, DashboardConfig(**choices), SystemClock(), history) as board:
            trials = Trials(board, make)
            app = build_app(board, trials, static)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://dashboard") as http:
                yield Shown(swarm, board, trials, http, app)
            await trials.close()
        await history.close()


@asynccontextmanager
async def served(tmp_path: Path, *, send_buffer: int = 0, **choices: Any) -> AsyncGenerator[Shown]:
    """On a free port, by uvicorn. ``send_buffer``: bytes that the kernel takes for a reader that does not read."""
    async with shown(tmp_path, **choices) as there:
        sock = socket.create_server(("127.0.0.1", 0))
        if send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        url = web.url_of(sock)
        async with web.served(there.app, sock), httpx.AsyncClient(base_url=url, timeout=20) as http:
            try:
                yield replace(there, http=http, url=url)
            finally:
                there.board.hang_up()
