"""``shoal dashboard``: joins a swarm, shows it, leaves when told. Knows signals, sockets and exit statuses.

SIGTERM or SIGINT: open streams end, then exit 0. A second signal: at once.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dashboard.config import DashboardConfig
from dashboard.options import parse
from dashboard.web import listening, served, url_of
from swarm.errors import ShoalError

if TYPE_CHECKING:
    from uvicorn import Server

    from dht.directory import Directory

INTERRUPTED = 130


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


async def _serve(config: DashboardConfig) -> int:
    with listening(config.listen) as sock:
        left, hurry, up = asyncio.Event(), asyncio.Event(), asyncio.Event()

        def signalled() -> None:
            (hurry if left.is_set() else left).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, signalled)
        showing = asyncio.create_task(_show(config, sock, up, left, hurry), name="show")
        leaving = asyncio.create_task(left.wait())
        await asyncio.wait({showing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not up.is_set() and not showing.done():  # nobody has seen anything yet
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            return 0
        await showing
        return INTERRUPTED if hurry.is_set() else 0


async def _show(
    config: DashboardConfig, sock: socket.socket, up: asyncio.Event, left: asyncio.Event, hurry: asyncio.Event
) -> None:
    """Join, show until ``left``, and end what is open; at once where there is ``hurry``."""
    from dashboard.house import opened
    from swarm.clock import SystemClock

    directory = await _join(config)
    try:
        async with opened(config, directory, SystemClock()) as house:
            hurrying: asyncio.Task[None] | None = None
            async with served(house.app, sock) as server:
                url = url_of(sock)
                names = [model["name"] for model in house.board.picture["models"]]
                print(json.dumps({"event": "ready", "http": url, "models": names}), flush=True)
                up.set()
                await left.wait()
                house.hang_up()
                hurrying = asyncio.create_task(_force(hurry, server))
            hurrying.cancel()
    finally:
        await directory.close()


async def _force(hurry: asyncio.Event, server: Server) -> None:
    await hurry.wait()
    server.force_exit = True


async def _join(config: DashboardConfig) -> Directory:
    await asyncio.to_thread(importlib.import_module, "dht.node")  # seconds: hivemind imports torch
    from dht.node import HivemindDirectory

    return await HivemindDirectory.create(join=config.join, client_mode=True)


if __name__ == "__main__":
    sys.exit(main())
