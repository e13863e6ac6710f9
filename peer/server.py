"""The sockets of the Peer: one gRPC server with health and reflection, and a small HTTP server for probes.

Ports are bound before anything slow is done, so that a busy one is noticed at once; nothing answers before ``start``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from dht.daemon import local_address
from proto.options import SERVER_OPTIONS
from proto.rpc import SERVICE, PeerService, add_peer_service
from swarm.address import Address
from swarm.errors import AddressInUse

if TYPE_CHECKING:
    from aiohttp import web

Status = Callable[[], dict[str, Any]]
Render = Callable[[str], tuple[bytes, str]]  # Accept header → body, content type

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GrpcServer:
    """``bind``, then ``start``, then ``stop``."""

    def __init__(self) -> None:
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]

    async def bind(self, address: Address) -> Address:
        """Take the port; 0 means any. Returns what was taken. Raises AddressInUse, UsageError for a host not ours.

        gRPC gets a number, not a name: it would take a host called "unix" for a kind of socket.
        """
        here = await local_address(address)
        try:
            port = self._server.add_insecure_port(str(here))
        except RuntimeError:  # taken since we looked
            port = 0
        if port == 0:
            raise AddressInUse(f"{address} is in use by another process; choose another port")
        return Address(address.host, port)

    async def start(self, service: PeerService) -> None:
        add_peer_service(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        await self.set_serving(False)
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """What ``grpc.health.v1`` says from now on."""
        for name in ("", SERVICE):
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give running ones ``grace_s``, then cut them off."""
        await self._server.stop(grace_s)


class HttpServer:
    """``/healthz`` is 200 while the process lives, ``/readyz`` while it takes Seats; both say why, in JSON.

    ``/metrics`` is what ``render`` gives, for Prometheus; without ``render`` there is no such page.
    """

    def __init__(self, status: Status, ready: Callable[[], bool], render: Render | None = None):
        from aiohttp import web  # only who serves HTTP pays for it: 0.2 s and 13 MB

        self._status, self._ready = status, ready
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        if render is not None:
            app.router.add_get("/metrics", partial(_metrics, render))
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, address: Address) -> Address:
        """Bind and answer. Returns what was bound. Raises AddressInUse, UsageError."""
        from aiohttp import web

        here = await local_address(address)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, here.host, here.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise AddressInUse(f"{address} is in use by another process; choose another port") from error
        return Address(address.host, self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response({"status": "ok", **self._status()})

    async def _readyz(self, request: web.Request) -> web.Response:
        from aiohttp import web

        ready = self._ready()
        body = {"status": "ready" if ready else "not ready", **self._status()}
        return web.json_response(body, status=200 if ready else 503)


async def _metrics(render: Render, request: web.Request) -> web.Response:
    from aiohttp import web

    body, content_type = render(",".join(request.headers.getall("Accept", [])))
    return web.Response(body=body, headers={"Content-Type": content_type})
