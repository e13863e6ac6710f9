"""LocalPeer: one ``peer.serve`` process on this machine, for the demo, the benchmarks and the whole-path tests.

It is a child process and is spoken to as anyone would: by its command line, its ready line, its signals. Whoever starts
one ends it; ``LocalSwarm`` ends all it started, also when the body raises.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swarm.errors import SwarmError

ROOT = Path(__file__).resolve().parent.parent


class LocalPeer:
    """A peer process, which ends when this one does, however. ``ready`` is its ready line once ``wait_ready`` has
    returned.
    """

    def __init__(self, *arguments: str, env: dict[str, str] | None = None):
        self.arguments = arguments
        self.ready: dict[str, Any] = {}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in end()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "peer.serve", "--with-stdin", *arguments],
            stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.PIPE,
            cwd=ROOT, env={**os.environ, **(env or {})}, start_new_session=True,
        )  # fmt: skip

    @property
    def peer_id(self) -> str:
        return self.ready["peer_id"]

    @property
    def join(self) -> list[str]:
        return self.ready["join"]

    def log(self) -> str:
        """What it has written to stderr so far."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read()

    def wait_ready(self, timeout_s: float = 60.0) -> LocalPeer:
        """Wait for the ready line. Raises SwarmError with the peer's last words if it ends or stays silent."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        descriptor, line = self.process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise SwarmError(f"peer {self.arguments} was not ready within {timeout_s:.0f} s: {self.log()[-800:]}")
            piece = os.read(descriptor, 1)
            if not piece:
                raise SwarmError(f"peer {self.arguments} ended with {self.process.wait()}: {self.log()[-800:]}")
            line += piece
        self.ready = json.loads(line)
        return self

    def kill(self) -> None:
        """SIGKILL: it has no chance to say goodbye."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def terminate(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, then wait for the drain. Returns the exit status; a peer that stays is killed and gives -9."""
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def end(self) -> None:
        """End it in any case and free what belongs to it."""
        if self.process.poll() is None:
            self.thaw()
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()


class LocalSwarm:
    """Several LocalPeers that join the first one. A context manager that leaves no process behind."""

    def __init__(self, *common: str, timeout_s: float = 90.0):
        self.common = common
        self.timeout_s = timeout_s
        self.peers: list[LocalPeer] = []

    def __enter__(self) -> LocalSwarm:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self.peers:
            peer.end()

    @property
    def join(self) -> list[str]:
        """Addresses of every living peer, so that the loss of one does not cut newcomers off."""
        return [address for peer in self.peers if peer.ready and peer.process.poll() is None for address in peer.join]

    def start(self, spans: Sequence[str], *extra: str) -> list[LocalPeer]:
        """Start one peer a span: the very first alone, the rest side by side. Returns them when all are ready."""
        new: list[LocalPeer] = []
        for span in spans:
            join = ["--join", *self.join] if self.peers else []
            with _signals_wait():  # or one between the start of a process and its entry here would leave it behind
                peer = LocalPeer("--blocks", span, *join, *self.common, *extra)
                self.peers.append(peer)
            new.append(peer)
            if len(self.peers) == 1:
                peer.wait_ready(self.timeout_s)
        for peer in new:
            if not peer.ready:
                peer.wait_ready(self.timeout_s)
        return new

    def stop(self) -> list[int]:
        """SIGTERM to all at once; their exit statuses."""
        for peer in self.peers:
            if peer.process.poll() is None:
                peer.process.terminate()
        return [peer.terminate() for peer in self.peers]


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that this process handles take effect when the block is over. (Blocking them would be inherited.)"""
    if threading.current_thread() is not threading.main_thread():  # where no handler of Python's runs
        yield
        return
    came: list[int] = []
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if callable(signal.getsignal(n))]
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in came:
        signal.raise_signal(number)
