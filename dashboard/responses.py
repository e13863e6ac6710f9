"""What goes back: JSON, errors, and event streams that end when nobody listens. Headers that every answer has."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.board import dump

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "cross-origin-resource-policy": "same-origin",
}
NO_STORE = {"cache-control": "no-store"}
STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold a stream back until its buffer is full
}

log = logging.getLogger("dashboard.responses")


class ApiError(Exception):
    """An answer that is not the one hoped for."""

    def __init__(self, status: int, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.status = status
        self.retry_after_s = None if retry_after_s is None else round(retry_after_s, 1)

    @property
    def body(self) -> dict[str, Any]:
        return {"message": str(self), "retry_after_s": self.retry_after_s}


class JsonBytes(Response):
    """JSON that is bytes already."""

    media_type = "application/json"

    def __init__(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None):
        super().__init__(body, status, {**NO_STORE, **(headers or {})})


def json_response(value: dict[str, Any]) -> JsonBytes:
    return JsonBytes(dump(value))


def error_response(error: ApiError) -> JsonBytes:
    later = {} if error.retry_after_s is None else {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    return JsonBytes(dump({"error": error.body}), error.status, later)


def event(name: str, data: bytes) -> bytes:
    """One server-sent event; ``data`` has no line break."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class EventStream(Response):
    """Sends what ``events`` yields, and closes it when its reader goes; one that takes nothing for ``write_timeout_s``
    has gone. ``ended`` is called in any case.
    """

    def __init__(self, events: AsyncGenerator[bytes], write_timeout_s: float, ended: Callable[[], None]):
        super().__init__(headers=STREAM)
        del self.headers["content-length"]
        self._events, self._write_timeout_s, self._ended = events, write_timeout_s, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending, gone = asyncio.create_task(self._send(send)), asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, gone):
                task.cancel()
            found = await asyncio.gather(sending, gone, return_exceptions=True)
            self._ended()
        if isinstance(found[0], OSError):  # TimeoutError is one
            log.debug("a reader left in mid-stream, or did not read")
        elif isinstance(found[0], Exception):
            raise found[0]

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._events) as events:  # here: a generator is closed by the task that ran it
            async for data in events:
                async with asyncio.timeout(self._write_timeout_s):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Secured:
    """Puts the headers on whatever ``app`` answers."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in SECURITY.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, sending)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
