"""The app: Starlette routes over a Board. JSON, events, "Try it" and the page; ``docs/dashboard.md`` is its manual.

It has no lifetime of its own: ``Dashboard`` has, and a server that mounts the app keeps one open around it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from dashboard.board import Board, dump
from dashboard.callers import caller_of
from dashboard.history import MAX_MINUTES
from dashboard.responses import (
    STREAM,
    ApiError,
    EventStream,
    JsonBytes,
    Secured,
    error_response,
    event,
    json_response,
)
from dashboard.trial import Trials
from swarm.bucket import Buckets

STATIC = Path(__file__).resolve().parent / "static"
MAX_BODY_BYTES = 16 << 10
BODY_TIMEOUT_S = 10.0
OPENING = b"retry: 2000\n\n"  # ms before a browser that lost its stream comes again
RETRY_S = 5.0
_PEER_ID = re.compile("[0-9a-f]{32}")

log = logging.getLogger("dashboard.app")


def owns(path: str) -> bool:
    """Whether a path is the dashboard's where it shares a server with others."""
    return path == "/" or path.startswith(("/api/v1/", "/static/", "/peer/"))


def build_app(board: Board, trials: Trials | None = None, static: Path | None = None) -> ASGIApp:
    """What uvicorn serves. ``board`` is open, and stays its owner's; so are ``trials``."""
    routes = _Routes(board, trials or Trials(board), static or STATIC)
    app = Starlette(
        routes=[
            Route("/", routes.page),
            Route("/peer/{peer_id}", routes.page),
            Route("/api/v1/swarm", routes.swarm),
            Route("/api/v1/peers", routes.peers),
            Route("/api/v1/peers/{peer_id}", routes.peer),
            Route("/api/v1/history", routes.history),
            Route("/api/v1/events", routes.events),
            Route("/api/v1/try", routes.trial, methods=["POST"]),
            Route("/healthz", routes.health),
            Route("/readyz", routes.ready),
            Mount("/static", Static(directory=static or STATIC, check_dir=False)),
        ],
        exception_handlers={ApiError: _refused, HTTPException: _unknown, Exception: _broken},
    )
    return Secured(app)


class Static(StaticFiles):
    """The page's files: asked for again each time, answered with 304 where nothing has changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        found = await super().get_response(path, scope)
        found.headers["cache-control"] = "no-cache"
        return found


class _Routes:
    def __init__(self, board: Board, trials: Trials, static: Path):
        self._board, self._trials, self._static = board, trials, static
        per_minute = board.config.requests_per_minute
        self._buckets = Buckets(per_minute / 60, max(10.0, per_minute / 6))  # 10 s worth at once
        self._streams: Counter[str] = Counter()

    async def page(self, request: Request) -> Response:
        index = self._static / "index.html"
        if not await asyncio.to_thread(index.is_file):
            raise ApiError(404, "the page is not installed here; the API is at /api/v1/swarm")
        return FileResponse(index, headers={"cache-control": "no-cache"})

    async def swarm(self, request: Request) -> Response:
        self._admit(request)
        return JsonBytes(self._board.body)

    async def peers(self, request: Request) -> Response:
        self._admit(request)
        return json_response({"peers": self._board.picture["peers"]})

    async def peer(self, request: Request) -> Response:
        self._admit(request)
        peer_id = request.path_params["peer_id"]
        found = self._board.peer(peer_id) if _PEER_ID.fullmatch(peer_id) else None
        if found is None:
            raise ApiError(404, "no such peer is here, nor was lately")
        return json_response(found)

    async def history(self, request: Request) -> Response:
        self._admit(request)
        text = request.query_params.get("minutes", "60")
        if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_MINUTES:
            raise ApiError(400, f"minutes must be a whole number from 1 to {MAX_MINUTES}")
        return json_response(await self._board.history.read(int(text), self._board.clock.wall()))

    async def events(self, request: Request) -> Response:
        self._admit(request)
        if request.method == "HEAD":
            return Response(headers=STREAM)
        board, caller = self._board, caller_of(request)
        if self._streams.total() >= board.config.max_streams or board.closing:
            raise ApiError(503, "too many pages follow this swarm; ask /api/v1/swarm now and then", RETRY_S)
        if self._streams[caller] >= board.config.max_streams_each:
            raise ApiError(429, f"{self._streams[caller]} of your pages follow this swarm already", RETRY_S)
        self._streams[caller] += 1

        def ended() -> None:
            self._streams[caller] -= 1
            if self._streams[caller] <= 0:
                del self._streams[caller]

        return EventStream(_follow(board), board.config.write_timeout_s, ended)

    async def trial(self, request: Request) -> Response:
        self._admit(request)
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise ApiError(403, "another site's page may not ask here")
        events = self._trials.begin(caller_of(request), await _body(request))
        return EventStream(events, self._board.config.write_timeout_s, self._trials.end)

    async def health(self, request: Request) -> Response:
        """Whether the process answers at all."""
        return json_response({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether there is something to see: the swarm could be looked at."""
        if self._board.in_touch:
            return json_response({"status": "ready"})
        return JsonBytes(dump({"status": "the swarm cannot be looked at now"}), 503)

    def _admit(self, request: Request) -> None:
        wait_s = self._buckets.take(caller_of(request), self._board.clock.monotonic())
        if wait_s > 0:
            rpm = self._board.config.requests_per_minute
            raise ApiError(429, f"more than {rpm:g} requests a minute; the next one in {wait_s:.1f} s", wait_s)


async def _follow(board: Board) -> AsyncGenerator[bytes]:
    """The picture whenever it is told anew, and points of the history. A slow reader misses pictures, and no more."""
    yield OPENING
    version, point = -1, board.point
    while not board.closing:
        if version != board.version:
            version = board.version
            yield event("swarm", board.body)
        elif point is not board.point and board.point is not None:
            point = board.point
            yield event("history", dump(point))
        else:
            await board.news()


async def _body(request: Request) -> Any:
    """The JSON of a request. Raises ApiError for one that is too large, too slow, or none."""
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_BODY_BYTES:
                    raise ApiError(413, f"the request is larger than {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise ApiError(408, "the request took too long to arrive") from None
    except ClientDisconnect:
        raise ApiError(400, "the request broke off") from None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):  # bad UTF-8 is a ValueError too
        raise ApiError(400, "the body is not JSON") from None


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    says = {404: "there is nothing at this path", 405: f"this path does not take {request.method[:16]}"}
    found = error_response(ApiError(error.status_code, says.get(error.status_code, str(error.detail))))
    found.headers.update(error.headers or {})
    return found


def _broken(request: Request, error: Exception) -> Response:
    log.error("a request failed: %r", error, exc_info=error)
    return error_response(ApiError(500, "the dashboard failed"))
