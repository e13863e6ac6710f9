"""Contestants in processes of their own, so that several are loaded at once and can take turns. Knows no contestant.

A worker is a module that runs as ``python -m`` and serves functions; a question is one JSON line with the function's
name and arguments, the answer one JSON line. Whatever libraries print goes to stderr, and is shown if the worker fails.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


class WorkerFailed(Exception):
    """The process ended or stayed silent; the message has its last words."""


class Worker:
    """The near end of ``module``. A context manager that leaves no process behind."""

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 600.0):
        self.module, self._timeout_s = module, timeout_s
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            cwd=ROOT, env=dict(os.environ) if env is None else dict(env),
        )  # fmt: skip

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # a question that nobody will read
                    pipe.close()
        self._log.close()

    def ask(self, function: str, **arguments: Any) -> Any:
        """The function's answer. Raises WorkerFailed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([function, arguments]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerFailed(self._last_words("has ended")) from None
        if not select.select([self._process.stdout], [], [], self._timeout_s)[0]:
            raise WorkerFailed(self._last_words(f"gave no answer within {self._timeout_s:.0f} s"))
        line = self._process.stdout.readline()
        if not line:
            self._process.kill()
            self._process.wait()
            raise WorkerFailed(self._last_words("has ended"))
        return json.loads(line)

    def kill(self) -> None:
        """SIGKILL: a question that is under way raises WorkerFailed."""
        self._process.kill()

    def leave(self, timeout_s: float = 20.0) -> int | None:
        """Ask nothing more and wait for it to end; its exit status, None where it stays."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def _last_words(self, what: str) -> str:
        self._log.flush()
        self._log.seek(0)
        return f"{self.module} {what}: {self._log.read()[-800:]}"


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """The far end: answers until nobody asks any more. To be called with stdout as ``quiet_stdout`` left it."""
    for line in sys.stdin:
        function, arguments = json.loads(line)
        os.write(_ANSWERS, json.dumps(functions[function](**arguments)).encode() + b"\n")


def quiet_stdout() -> None:
    """From here on only answers reach stdout; what libraries print goes to stderr."""
    global _ANSWERS
    _ANSWERS = os.dup(1)
    os.dup2(2, 1)


_ANSWERS = 1
