"""Pictures of swarms as ``/api/v1/swarm`` gives them, and a Stage that plays the server before the browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.responses import FileResponse, JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard.app import STATIC
from dashboard.responses import Secured

NOW = 1_800_000_000.0
Json = dict[str, Any]


def peer(number: int, span: str, model: str = "a" * 32, **changes: Any) -> Json:
    return {
        "id": f"{number:032x}", "name": f"peer-{number}", "model": model, "span": span, "state": "ready",
        "profile": "c8", "version": "0.1.0", "tokens_per_s": 10.0 + number, "sessions": number % 3,
        "pages": {"used": number % 128, "total": 128}, "queue_tokens": 0, "block_ms": 0.8, "age_s": 3.0,
        "expires_in_s": 42.0, "rtt_ms": 0.5, "reachable": True, "address": None, **changes,
    }  # fmt: skip


def model(peers: Sequence[Json], num_blocks: int, name: str = "shoal-sample", fingerprint: str = "a" * 32) -> Json:
    """That model as those Peers serve it."""
    coverage = [0] * num_blocks
    for each in peers:
        if each["state"] == "ready" and each["reachable"] and each["model"] == fingerprint:
            start, end = map(int, each["span"].split(":"))
            for block in range(start, end):
                coverage[block] += 1
    single, gaps, least = _ranges(coverage, 1), _ranges(coverage, 0), min(coverage)
    weakest = _ranges(coverage, least)[0]
    return {
        "name": name, "fingerprint": fingerprint, "num_blocks": num_blocks, "coverage": coverage,
        "state": "broken" if gaps else "fragile" if single else "healthy", "single": single, "gaps": gaps,
        "weakest": {"blocks": weakest, "replicas": least, "tokens_per_s": 41.2 if least else None},
        "tokens_per_s": 35.1, "sessions": 3, "peers": len(peers),
        "join": {"command": f"shoal serve --blocks {weakest} --join MADDR", "blocks": weakest, "why": "so it is",
                 "complete": False},
    }  # fmt: skip


def swarm(peers: Sequence[Json], models: Sequence[Json], links: Sequence[Json] = (), **changes: Any) -> Json:
    totals = {"peers": len(peers), "ready": len(peers), "sessions": 3, "tokens_per_s": 35.1}
    return {
        "at": NOW, "version": "0.1.0", "ttl_s": 45.0, "try": {"max_tokens": 128}, "models": list(models),
        "peers": list(peers), "links": list(links), "totals": totals, **changes,
    }  # fmt: skip


def one_model(peers: Sequence[Json], num_blocks: int = 24, links: Sequence[Json] = (), **changes: Any) -> Json:
    return swarm(peers, [model(peers, num_blocks)], links, **changes)


def _ranges(coverage: Sequence[int], replicas: int) -> list[str]:
    found: list[list[int]] = []
    for block, have in enumerate(coverage):
        if have == replicas:
            if found and found[-1][1] == block:
                found[-1][1] = block + 1
            else:
                found.append([block, block + 1])
    return [f"{start}:{end}" for start, end in found]


class Stage:
    """The server, as far as a page can tell. ``picture`` None: it is out of order. It has no streams: the page asks."""

    def __init__(self) -> None:
        self.picture: Json | None = None
        self.url = ""
        self._files = StaticFiles(directory=STATIC)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        answer: ASGIApp = self._api(path) if path.startswith("/api/") else FileResponse(STATIC / "index.html")
        if path.startswith("/static/"):
            scope, answer = {**scope, "root_path": "/static"}, self._files
        await answer(scope, receive, send)

    def _api(self, path: str) -> ASGIApp:
        if self.picture is None or path == "/api/v1/events":
            return JSONResponse({"error": {"message": "no more", "retry_after_s": 5}}, 503)
        if path == "/api/v1/history":
            return JSONResponse({"step_s": 10, "points": []})
        if path.startswith("/api/v1/peers/"):
            found = [each for each in self.picture["peers"] if path.endswith(each["id"])]
            return JSONResponse({**found[0], "links": [], "history": []} if found else {}, 200 if found else 404)
        return JSONResponse(self.picture)


@contextmanager
def stage() -> Iterator[Stage]:
    """On a free port, in a thread of its own."""
    play = Stage()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        play.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(Secured(play), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield play
        finally:
            server.should_exit = True
            thread.join(10)
