"""``/docs``: swagger-ui over ``/openapi.json``, from files that lie here, under a strict Content-Security-Policy.

The files are kept compressed; who does not take gzip gets them unpacked. ``gateway/vendor/VENDORED.md`` says what they
are and where they come from.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import Response

from dashboard.responses import SECURITY

VENDOR = Path(__file__).parent / "vendor"
DOCS = "/docs"
FILES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
CACHED = {"cache-control": "public, max-age=86400"}
PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Shoal gateway: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{DOCS}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; <a href="/openapi.json">openapi.json</a> says the same.</noscript>
<script src="{DOCS}/swagger-ui-bundle.js"></script>
<script src="{DOCS}/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", presets: [SwaggerUIBundle.presets.apis], validatorUrl: null,
  deepLinking: true, persistAuthorization: false,
});
"""


def add_pages(app: FastAPI) -> None:
    """Routes that are in no document."""

    @app.get(DOCS, include_in_schema=False)
    async def docs() -> Response:
        return Response(PAGE, headers={"content-type": "text/html; charset=utf-8", **SECURITY})

    @app.get(f"{DOCS}/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(START, headers={"content-type": FILES["swagger-ui-bundle.js"], **SECURITY})

    for name in FILES:
        app.get(f"{DOCS}/{name}", include_in_schema=False)(_serving(name))


def packed(name: str) -> bytes:
    """A vendored file as it lies here."""
    return (VENDOR / f"{name}.gz").read_bytes()


def _serving(name: str) -> Callable[[Request], Awaitable[Response]]:
    loaded = cache(lambda: packed(name))

    async def serve(request: Request) -> Response:
        headers = {"content-type": FILES[name], "vary": "accept-encoding", **CACHED, **SECURITY}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(loaded(), headers={**headers, "content-encoding": "gzip"})
        return Response(gzip.decompress(loaded()), headers=headers)

    return serve
