"""What every HTTP server of Shoal has in common: a socket that is taken early, and uvicorn without its signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from swarm.address import Address
from swarm.errors import AddressInUse, UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server

BACKLOG = 2048
CLOSE_S = 5  # for connections, once no answer runs any more


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
        # Connections inherit it. asyncio sets it only where a socket says that it is TCP's, which this one does not;
        # without it a response that is written in two parts waits 40 ms for the reader's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://{Address(host, port)}"


@asynccontextmanager
async def served(app: ASGIApp, sock: socket.socket) -> AsyncGenerator[Server]:
    """Over HTTP, until left."""
    up = asyncio.Event()
    server = _server(app, up)
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
