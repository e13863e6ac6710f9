from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.kit import visitor
from swarm.errors import NoRoute


class FakeStream:
    """Says 1, 2, 3 …; a prompt that begins with 0 finds no route."""

    def __init__(self, prompt: list[int], tokens: int):
        self._prompt, self._ids = prompt, list(range(1, tokens + 1))
        self.result = SimpleNamespace(token_ids=tuple(self._ids))

    async def __aenter__(self) -> FakeStream:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def __aiter__(self) -> AsyncIterator[Any]:
        if self._prompt[0] == 0:
            raise NoRoute("blocks 0:8 are missing")
        for each in self._ids:
            yield SimpleNamespace(token_ids=(each,))


class FakeClient:
    def __init__(self, join: list[str]):
        self.join = join

    def stream(self, prompt: list[int], max_new_tokens: int, ignore_eos: bool) -> FakeStream:
        return FakeStream(prompt, max_new_tokens)

    async def close(self) -> None: ...


def test_a_visit_runs_all_its_jobs_and_says_what_each_came_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(visitor, "AsyncClient", FakeClient)
    job = {"prompt": [5], "tokens": 3, "options": {}, "leave_after": None}
    guest = visitor.Visitor(["/ip4/…"])
    try:
        assert guest.visit([job, {**job, "leave_after": 2}, {**job, "prompt": [0]}]) == [
            {"token_ids": [1, 2, 3]}, {"left": [1, 2]}, {"error": "NoRoute: blocks 0:8 are missing"},
        ]  # fmt: skip
        assert guest.visit([job]) == [{"token_ids": [1, 2, 3]}]
    finally:
        guest.close()
