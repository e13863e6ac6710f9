"""Mounted: the dashboard under "/" of the gateway. Decides by path alone whose a request is; the gateway's routes win.

The dashboard is public where the gateway asks for keys: it says nothing that a key protects, and has limits of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard.app import owns


class Mounted:
    """``routes`` are the gateway's."""

    def __init__(self, gateway: ASGIApp, routes: Sequence[BaseRoute], dashboard: ASGIApp):
        self._gateway, self._routes, self._dashboard = gateway, routes, dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._dashboard if self._is_dashboards(scope) else self._gateway)(scope, receive, send)

    def _is_dashboards(self, scope: Scope) -> bool:
        if scope["type"] != "http" or not owns(scope["path"]):
            return False
        return all(route.matches(scope)[0] is Match.NONE for route in self._routes)
