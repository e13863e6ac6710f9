"""``shoal gateway``: joins a swarm, serves HTTP, leaves when told. Knows signals, sockets and exit statuses.

One event loop: uvicorn's server and the client's Sessions share it. SIGTERM or SIGINT: new requests get 503 and their
connections are closed, answers that run are finished (up to ``--drain-s``), then exit 0. A second signal: at once.
SIGHUP: the keys are read again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from dashboard import web
from gateway.config import GatewayConfig
from gateway.options import parse
from swarm.errors import ShoalError

if TYPE_CHECKING:
    from uvicorn import Server

    from dashboard.house import House
    from dht.directory import Directory
    from gateway.desk import Desk

INTERRUPTED = 130

log = logging.getLogger("gateway.serve")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to leave. Returns the exit status; an error raised on purpose is one line on stderr."""
    try:
        config = parse(argv)
        from peer import log as logging_setup

        logging_setup.configure(config.log_level)
        return asyncio.run(_serve(config))
    except KeyboardInterrupt:
        return INTERRUPTED
    except ShoalError as error:
        print(f"shoal: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status


async def _serve(config: GatewayConfig) -> int:
    with web.listening(config.listen) as sock:
        left = asyncio.Event()
        hurry = asyncio.Event()

        def signalled() -> None:
            (hurry if left.is_set() else left).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, signalled)
        opening = asyncio.create_task(_join(config))
        leaving = asyncio.create_task(left.wait())
        await asyncio.wait({opening, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not opening.done():
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            return 0
        directory = opening.result()
        try:
            async with (
                opened(config, directory) as desk,
                showing(config, directory) as house,
                served(desk, sock, house) as server,
            ):
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, desk.renew_keys, os.environ)
                url = web.url_of(sock)
                names = [target.name for target in desk.models.listed()]
                print(json.dumps({"event": "ready", "http": url, "api": f"{url}/v1", "models": names}), flush=True)
                await left.wait()
                log.info("draining, %d requests run", desk.gate.running)
                try:
                    return await _leave(desk, server, hurry)
                finally:
                    if house is not None:
                        house.hang_up()
        finally:
            await directory.close()


async def _leave(desk: Desk, server: Server, hurry: asyncio.Event) -> int:
    draining, hurried = asyncio.create_task(desk.drain()), asyncio.create_task(hurry.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not draining.done():
        draining.cancel()
        server.force_exit = True
        return INTERRUPTED
    log.info("left" if draining.result() else "left; some answers were given up")
    return 0


@asynccontextmanager
async def opened(config: GatewayConfig, directory: Directory) -> AsyncGenerator[Desk]:
    """A Desk over ``directory``, which stays its owner's."""

    from client.async_client import AsyncClient
    from client.config import ClientConfig
    from gateway.desk import Desk
    from gateway.keys import read_keys
    from gateway.models import Models
    from swarm.clock import SystemClock
    from swarm.version import software_version

    clock = SystemClock()
    keyring = read_keys(config.keys, os.environ, config.limits)
    of_client = ClientConfig(
        profile=config.profile, max_concurrent=config.max_running + config.max_answers,
        max_new_tokens=config.default_tokens, admission_timeout_s=config.queue_timeout_s,
    )  # fmt: skip

    def make(fingerprint: str) -> AsyncClient:
        return AsyncClient(model=fingerprint, config=of_client, directory=directory, clock=clock)

    async with Models(directory, config.models, config.aliases, make, clock) as models:
        yield Desk(config, models, keyring, software_version(), clock)


@asynccontextmanager
async def served(desk: Desk, sock: socket.socket, house: House | None = None) -> AsyncGenerator[Server]:
    """Over HTTP, until left; with the dashboard of ``house`` beside it."""
    from gateway.app import build_app

    async with web.served(build_app(desk, None if house is None else house.app), sock) as server:
        yield server


@asynccontextmanager
async def showing(config: GatewayConfig, directory: Directory) -> AsyncGenerator[House | None]:
    """The dashboard over the same ``directory``, if there is to be one."""
    from swarm.clock import SystemClock

    if config.dashboard is None:
        yield None
        return
    from dashboard import house

    async with house.opened(config.dashboard, directory, SystemClock()) as made:
        yield made


async def _join(config: GatewayConfig) -> Directory:
    import importlib

    await asyncio.to_thread(importlib.import_module, "dht.node")  # seconds: hivemind imports torch
    from dht.node import HivemindDirectory

    return await HivemindDirectory.create(join=config.join, client_mode=True)


if __name__ == "__main__":
    sys.exit(main())
