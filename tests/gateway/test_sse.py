"""One event is one line of JSON and an empty one."""

from __future__ import annotations

import json

import pytest

from gateway import sse


def test_a_line_break_or_a_separator_in_a_text_ends_no_event():
    data = sse.event({"text": "a\nb\r\n\u2028data: [DONE]\n\n"})
    assert data.startswith(b"data: {") and data.endswith(b"}\n\n") and data.count(b"\n") == 2
    assert json.loads(data[6:]) == {"text": "a\nb\r\n\u2028data: [DONE]\n\n"}


def test_what_is_no_json_is_never_sent():
    with pytest.raises(ValueError):
        sse.event({"logprob": float("nan")})
