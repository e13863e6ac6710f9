"""A gateway as a process, and who asks it over HTTP: streams whose tokens are timed, in the books of ``driving``.

A gateway is spoken to as anyone would: by its command line, its ready line, its signals and its port. The HTTP client
is aiohttp, whose parser is C, for what it costs counts against the gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from benchmarks.kit.driving import Run
from benchmarks.kit.workers import ROOT

START_S = 60.0
DONE = b"data: [DONE]"


class GatewayFailed(Exception):
    """It ended, stayed silent, or answered with something else than tokens."""


class LocalGateway:
    """``python -m gateway`` on a free port. A context manager that leaves no process behind."""

    def __init__(self, join: Sequence[str], *arguments: str):
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "--listen", "127.0.0.1:0", "--log-level", "warning",
             "--join", *join, *arguments],
            stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL, cwd=ROOT, env=dict(os.environ),
        )  # fmt: skip
        self.ready: dict[str, Any] = {}

    def __enter__(self) -> LocalGateway:
        try:
            assert self.process.stdout is not None
            if not select.select([self.process.stdout], [], [], START_S)[0]:
                raise GatewayFailed(f"the gateway was not ready within {START_S:.0f} s: {self.log()[-800:]}")
            line = self.process.stdout.readline()
            if not line:
                raise GatewayFailed(f"the gateway ended with {self.process.wait()}: {self.log()[-800:]}")
            self.ready = json.loads(line)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    @property
    def url(self) -> str:
        return self.ready["http"]

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def log(self) -> str:
        """What it has written to stderr so far."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read()

    def terminate(self, timeout_s: float = 60.0) -> int:
        """SIGTERM, then wait for the drain; its exit status. One that stays is killed and gives -9."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return -signal.SIGKILL


def wish(prompt: Sequence[int], tokens: int, **more: Any) -> dict[str, Any]:
    """A streamed completion that is what ``driving.generate`` asks a client for: greedy, and of a known length."""
    return {
        "prompt": list(prompt), "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True, **more,
    }  # fmt: skip


async def ask(session: aiohttp.ClientSession, prompt: Sequence[int], tokens: int) -> Run:
    """One stream. Each event but the last is a token; raises GatewayFailed where there are not ``tokens`` of them."""
    run = Run(time.perf_counter())
    async with session.post("/v1/completions", json=wish(prompt, tokens)) as answer:
        if answer.status != 200:
            raise GatewayFailed(f"{answer.status}: {(await answer.text())[:300]}")
        async for line in answer.content:
            if line.startswith(b"data: {"):
                run.times.append(time.perf_counter())
    run.times.pop()  # of the event that says why it ended
    if len(run.times) != tokens:
        raise GatewayFailed(f"{len(run.times)} tokens came where {tokens} were asked for")
    return run


async def ask_together(session: aiohttp.ClientSession, prompts: Sequence[Sequence[int]], tokens: int) -> list[Run]:
    """As many streams at once as there are prompts."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(session, prompt, tokens)) for prompt in prompts]
    return [task.result() for task in tasks]


def visitor(url: str) -> aiohttp.ClientSession:
    """Keeps its connections and has no limit to their number."""
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0))
