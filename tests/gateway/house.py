"""A gateway over hash peers in this process: by httpx without a socket, or on a real port for clients of others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from client import AsyncClient
from client.text import Codec
from gateway.app import build_app
from gateway.config import GatewayConfig
from gateway.desk import Desk
from gateway.keys import Keyring
from gateway.models import Models
from gateway.serve import served
from swarm.address import Address
from swarm.clock import Clock, SystemClock
from tests.client.loopback import Loopback
from tests.client.words import directory

SPANS = [(0, 3), (3, 6)]


@dataclass
class House:
    """One gateway. ``url`` where it is served on a port."""

    swarm: Loopback
    desk: Desk
    codec: Codec
    http: httpx.AsyncClient
    url: str = ""

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def said(self, path: str, **body: Any) -> Any:
        answer = await self.post(path, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def desk_over(
    swarm: Loopback, config: GatewayConfig, keyring: Keyring | None = None, clock: Clock | None = None, **of_client: Any
) -> AsyncGenerator[Desk]:
    of_client = {"max_new_tokens": config.default_tokens, **of_client}

    def make(fingerprint: str) -> AsyncClient:
        return AsyncClient(
            model=fingerprint, config=replace(swarm.config, **of_client), directory=swarm.directory, clock=clock
        )

    async with Models(swarm.directory, config.models, config.aliases, make, clock or SystemClock()) as models:
        yield Desk(config, models, keyring or Keyring(), "test", clock or SystemClock())


@asynccontextmanager
async def house(
    tmp_path: Path, *, config: GatewayConfig | None = None, keyring: Keyring | None = None,
    spans: Sequence[tuple[int, int]] = SPANS, **of_client: Any,
) -> AsyncGenerator[House]:  # fmt: skip
    """Without a socket: a body comes whole."""
    words = tmp_path / "words"
    words.mkdir()
    async with (
        Loopback(spans, tmp_path / "assets") as swarm,
        desk_over(swarm, config or GatewayConfig(), keyring, **of_client) as desk,
        httpx.AsyncClient(transport=httpx.ASGITransport(build_app(desk)), base_url="http://gateway") as http,
    ):
        yield House(swarm, desk, Codec(directory(words)), http)


@asynccontextmanager
async def served_house(tmp_path: Path, *, send_buffer: int = 0, **choices: Any) -> AsyncGenerator[House]:
    """On a free port, by uvicorn. ``send_buffer``: bytes that the kernel takes for a reader that does not read."""
    async with house(tmp_path, **choices) as there:
        sock = socket.create_server(("127.0.0.1", 0))
        if send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        url = f"http://{Address(*sock.getsockname())}"
        async with served(there.desk, sock), httpx.AsyncClient(base_url=url, timeout=20) as http:
            yield replace(there, http=http, url=url)


async def until(what: Any, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
