"""A small Hub on loopback: the endpoints that ``huggingface_hub`` uses to describe a model, find a file and fetch bytes
of it.

As on the real one, files of weights are redirected to storage under another host name. It counts what it serves, and
can be told to misbehave: to break off transfers, to answer with an error, to ignore Range.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Trouble:
    """What the Hub does wrong, and how often. ``break_after``: bytes of a transfer before the connection closes."""

    break_after: int | None = None
    breaks: int = 0
    statuses: list[int] = field(default_factory=list)  # answers to the next requests for weights
    ignore_range: bool = False
    shift_range: int = 0  # answers another range than the one asked for


class Hub:
    """``with Hub() as hub: hub.add("org/name", directory)``; ``hub.url`` goes into HF_ENDPOINT."""

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.refused: dict[str, tuple[int, str]] = {}  # model → status, X-Error-Code
        self.garbage: bytes | None = None  # what the API answers instead
        self.trouble = Trouble()
        self.served: Counter[str] = Counter()  # bytes of bodies, by file name
        self.ranges: list[tuple[str, int, int]] = []  # of weights: file, first byte, the byte after the last
        self.requests: list[str] = []
        self.storage_tokens: list[str | None] = []  # Authorization headers that storage saw
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def weight_bytes(self) -> int:
        return sum(count for file, count in self.served.items() if file.endswith(".safetensors"))

    def add(self, repo: str, directory: Path) -> None:
        self.models[repo] = directory

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.hang_up()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]):
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up is none of ours

    def hang_up(self) -> None:
        """Ends the connections that clients keep alive."""
        for request in tuple(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    owner: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._route(body=False)

    def do_GET(self) -> None:
        self._route(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _route(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.owner.requests.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self._describe(found[1], found[2])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._tree(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3], body)
        elif found := re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path):
            self.owner.storage_tokens.append(self.headers.get("Authorization"))
            self._send_file(self.owner.models[found[1]] / found[2], {}, body)
        else:
            self._error(404, "")

    def _describe(self, repo: str, revision: str | None) -> None:
        if repo in self.owner.refused:
            self._error(*self.owner.refused[repo])
            return
        if repo not in self.owner.models:
            self._error(404, "RepoNotFound")
            return
        if revision not in (None, "main", "v1", COMMIT):
            self._error(404, "RevisionNotFound")
            return
        files = sorted(path for path in self.owner.models[repo].iterdir() if path.is_file())
        siblings = [{"rfilename": path.name, "size": path.stat().st_size, "blobId": _sha1(path)} for path in files]
        answer = {
            "_id": "1",
            "id": repo,
            "modelId": repo,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }
        self._send_json({**answer, "siblings": siblings})

    def _tree(self, repo: str) -> None:
        files = sorted(path for path in self.owner.models[repo].iterdir() if path.is_file())
        self._send_json(
            [{"type": "file", "oid": "0" * 40, "size": path.stat().st_size, "path": path.name} for path in files]
        )

    def _send_json(self, answer: object) -> None:
        data = self.owner.garbage or json.dumps(answer).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(data))})
        self.wfile.write(data)

    def _resolve(self, repo: str, revision: str, file: str, body: bool) -> None:
        if repo not in self.owner.models:
            self._error(404, "RepoNotFound")
            return
        path = self.owner.models[repo] / file
        if revision not in ("main", "v1", COMMIT) or not path.is_file():
            self._error(404, "EntryNotFound")
            return
        etag = hashlib.sha256(path.name.encode() + str(path.stat().st_mtime_ns).encode()).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if not file.endswith(".safetensors"):
            self._send_file(path, headers, body)
            return
        linked = {"X-Linked-Size": str(path.stat().st_size), "X-Linked-ETag": f'"{etag}"', "Content-Length": "0"}
        self._head(302, {**headers, **linked, "Location": f"http://localhost:{self.owner.port}/storage/{repo}/{file}"})

    def _send_file(self, path: Path, headers: dict[str, str], body: bool) -> None:
        trouble = self.owner.trouble
        weights = path.suffix == ".safetensors"
        if weights and trouble.statuses:
            self._error(trouble.statuses.pop(0), "")
            return
        size = path.stat().st_size
        start, end, status = 0, size, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and not trouble.ignore_range:
            start, end, status = (
                int(asked[1]) + trouble.shift_range,
                min(size, int(asked[2]) + 1 + trouble.shift_range),
                206,
            )
            if start >= size:
                self._error(416, "")
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self._head(status, {**headers, "Content-Length": str(end - start)})
        if not body:
            return
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        if weights and trouble.breaks > 0 and trouble.break_after is not None and len(data) > trouble.break_after:
            trouble.breaks -= 1
            data = data[: trouble.break_after]
            self.close_connection = True
        self.owner.served[path.name] += len(data)
        if weights:
            self.owner.ranges.append((path.name, start, start + len(data)))
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # the client had enough

    def _error(self, status: int, code: str) -> None:
        self._head(status, {"X-Error-Code": code, "Content-Length": "0"} if code else {"Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
