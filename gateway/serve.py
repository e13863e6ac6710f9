"""``shoal gateway``: joins a swarm, serves HTTP, leaves when told. Knows signals, sockets and exit statuses.

One event loop: uvicorn's server and the client's Sessions share it. SIGTERM or SIGINT: new requests get 503 and their
connections are closed, answers that run are finished (up to ``--drain-s``), then exit 0. A second signal: at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.config import GatewayConfig
from gateway.options import parse
from swarm.address import Address
from swarm.errors import AddressInUse, ShoalError, UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server

    from dht.directory import Directory
    from gateway.desk import Desk

INTERRUPTED = 130
BACKLOG = 2048
CLOSE_S = 5  # for connections, once no answer runs any more

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
    with listening(config.listen) as sock:
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
            async with opened(config, directory) as desk, served(desk, sock) as server:
                address = sock.getsockname()
                url = f"http://{Address(address[0], address[1])}"
                names = [target.name for target in desk.models.listed()]
                print(json.dumps({"event": "ready", "http": url, "api": f"{url}/v1", "models": names}), flush=True)
                await left.wait()
                log.info("draining, %d requests run", desk.gate.running)
                return await _leave(desk, server, hurry)
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


@contextlib.contextmanager
def listening(address: Address) -> Generator[socket.socket]:
    """The socket. Bound before the swarm is joined, so that a taken port is known at once. Raises AddressInUse."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        sock = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise UsageError(f"cannot listen on {address}: {error}") from None
    except OSError as error:
        raise AddressInUse(f"cannot listen on {address}: {error.strerror or error}") from None
    with sock:
        yield sock


@asynccontextmanager
async def opened(config: GatewayConfig, directory: Directory) -> AsyncGenerator[Desk]:
    """A Desk over ``directory``, which stays its owner's."""
    import os

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
async def served(desk: Desk, sock: socket.socket) -> AsyncGenerator[Server]:
    """Over HTTP, until left."""
    from gateway.app import build_app

    up = asyncio.Event()
    server = _server(build_app(desk), up)
    serving = asyncio.create_task(server.serve(sockets=[sock]), name="http")
    started = asyncio.create_task(up.wait())
    try:
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        yield server
    finally:
        started.cancel()
        server.should_exit = True
        await serving


def _server(app: ASGIApp, up: asyncio.Event) -> Server:
    import uvicorn

    class QuietServer(uvicorn.Server):
        """Leaves signals to us, and says when it is there."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            up.set()

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    return QuietServer(
        uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False,
            timeout_graceful_shutdown=CLOSE_S,
        )
    )  # fmt: skip


async def _join(config: GatewayConfig) -> Directory:
    import importlib

    await asyncio.to_thread(importlib.import_module, "dht.node")  # seconds: hivemind imports torch
    from dht.node import HivemindDirectory

    return await HivemindDirectory.create(join=config.join, client_mode=True)


if __name__ == "__main__":
    sys.exit(main())
