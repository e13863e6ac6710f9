"""Server-sent events as OpenAI's streams use them: one ``data:`` line an event, ``[DONE]`` in the last. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DONE = b"data: [DONE]\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would hold a stream back until its buffer is full
}


def dump(value: Mapping[str, Any]) -> bytes:
    """JSON on one line: json escapes line breaks, which would end an event. NaN is no JSON and never ours to send.

    Half a surrogate pair, which a caller may have sent and hears of in an error, becomes a question mark.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(errors="replace")


def event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + dump(value) + b"\n\n"
