"""A client in a process of its own, for the soak: it can be killed like anybody's. ``python -m benchmarks.kit.visitor
JOIN …`` reads a JSON line with jobs, runs them all at once, and writes a line with what each came to.

A job is {"prompt": ids, "tokens": n, "options": {…}, "leave_after": n or null}. What it comes to is {"token_ids": ids},
{"left": ids} for a Session that was given up after so many tokens, or {"error": text}.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from benchmarks.kit.workers import quiet_stdout, serve
from client import AsyncClient
from swarm.errors import ShoalError


class Visitor:
    """One client and its loop, for as long as the process lives."""

    def __init__(self, join: list[str]):
        self._runner = asyncio.Runner()
        self._join = join
        self._client: AsyncClient | None = None

    def visit(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._runner.run(self._visit(jobs))

    async def _visit(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._client is None:
            self._client = AsyncClient(self._join)
        return await asyncio.gather(*(self._one(self._client, **job) for job in jobs))

    async def _one(
        self, client: AsyncClient, prompt: list[int], tokens: int, options: dict[str, Any], leave_after: int | None
    ) -> dict[str, Any]:
        ids: list[int] = []
        try:
            async with client.stream(prompt, max_new_tokens=tokens, ignore_eos=True, **options) as stream:
                async for piece in stream:
                    ids += piece.token_ids
                    if leave_after is not None and len(ids) >= leave_after:
                        return {"left": ids}
                return {"token_ids": list(stream.result.token_ids)}
        except ShoalError as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def close(self) -> None:
        if self._client is not None:
            self._runner.run(self._client.close())
        self._runner.close()


def main() -> None:
    quiet_stdout()
    visitor = Visitor(sys.argv[1:])
    try:
        serve({"visit": visitor.visit})
    finally:
        visitor.close()


if __name__ == "__main__":
    main()
