"""Porch: what every request passes before it is read as anything: its id, its key, its size, whether the house is open.

Plain ASGI, so that a disconnect reaches the routes as it is. The body is read here, whole, within a size and a time;
the routes get it from memory. Counts every response by route and status.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.desk import Desk
from gateway.errors import ApiError
from gateway.keys import Key, bearer
from gateway.pages import DOCS
from gateway.responses import error_response

OPEN = ("/health", "/healthz", "/readyz", "/version", "/metrics", "/openapi.json")  # no key is asked for
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

log = logging.getLogger("gateway.porch")


class Porch:
    def __init__(self, app: ASGIApp, desk: Desk):
        self._app, self._desk = app, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        desk, headers = self._desk, Headers(scope=scope)
        begun, status = desk.clock.monotonic(), 0
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(12)
        scope.setdefault("state", {})["request_id"] = request_id

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = MutableHeaders(raw=message.setdefault("headers", []))
                told["x-request-id"] = request_id
                if desk.draining:
                    told["connection"] = "close"
            await send(message)

        try:
            try:
                scope["state"]["key"] = self._key(scope, headers)
                if desk.draining and not is_open(scope["path"]):
                    raise ApiError(503, "the gateway is shutting down", code="draining", retry_after_s=1.0)
                body = await self._body(headers, receive)
            except ApiError as error:
                response = error_response(error, scope["path"])
                if error.status in (408, 413):
                    response.headers["connection"] = "close"  # the rest of the body is still on its way
                await response(scope, receive, sending)
                return
            await self._app(scope, _replay(body, receive), sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            desk.metrics.response(route, status or 499)
            seconds = round(desk.clock.monotonic() - begun, 3)
            key = scope["state"].get("key")
            told_of = {"request": request_id, "seconds": seconds, "key": key.name if key is not None else None}
            log.info("%s %s %s", scope["method"], route, status or 499, extra=told_of)

    def _key(self, scope: Scope, headers: Headers) -> Key | None:
        """Whose request it is; None where there are no keys. Raises ApiError 401."""
        keyring = self._desk.keyring
        if not keyring or is_open(scope["path"]):
            return None
        given = bearer(headers.get("authorization"))
        if given is None:
            raise ApiError(401, "give an API key: Authorization: Bearer KEY", code="missing_api_key")
        key = keyring.find(given)
        if key is None:
            raise ApiError(401, "this API key is not known here", code="invalid_api_key")
        return key

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Raises ApiError for one that is too large or too slow."""
        limit = self._desk.config.max_body_bytes
        too_large = ApiError(413, f"the request is larger than {limit} bytes", code="request_too_large")
        announced = headers.get("content-length", "0")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
            raise too_large
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self._desk.config.body_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    chunks.append(message.get("body", b""))
                    if sum(map(len, chunks)) > limit:
                        raise too_large
                    more = message.get("more_body", False)
        except TimeoutError:
            raise ApiError(408, "the request took too long to arrive", code="request_timeout") from None
        return b"".join(chunks)


def is_open(path: str) -> bool:
    """Probes, figures and pages: without a key, and while the gateway leaves."""
    return path in OPEN or path == DOCS or path.startswith((f"{DOCS}/", "/v2/health/"))


def _replay(body: bytes, receive: Receive) -> Receive:
    """``body`` once, then whatever comes."""
    told = False

    async def replaying() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying
