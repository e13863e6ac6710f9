"""A real ``shoal dashboard`` process for tests and screenshots, always ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from peer.local import ROOT


class DashboardProcess:
    def __init__(self, process: subprocess.Popen[bytes], url: str):
        self.process = process
        self.url = url  # like http://127.0.0.1:41234

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def dashboard(
    join: Sequence[str], *arguments: str, history: str = "none", ready_s: float = 60.0
) -> Iterator[DashboardProcess]:
    """One that is ready."""
    command = [sys.executable, "-m", "dashboard", "--listen", "127.0.0.1:0", "--history", history, "--join", *join]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT
        )
        try:
            yield DashboardProcess(process, json.loads(_first_line(process, ready_s) or _last_words(log))["http"])
        finally:
            _end(process)


def _first_line(process: subprocess.Popen[bytes], ready_s: float) -> bytes:
    assert process.stdout is not None
    deadline, line = time.monotonic() + ready_s, b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            return b""
        piece = os.read(process.stdout.fileno(), 1)
        if not piece:
            return b""
        line += piece
    return line


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    raise AssertionError(f"the dashboard was not ready: {log.read()[-800:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    process.stdout.close()
