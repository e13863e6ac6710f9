"""A real ``peer.serve`` process for tests, always ended. ``peer.local`` does the work; here are the tests' words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peer.local import LocalPeer


class PeerProcess(LocalPeer):
    """``ready`` holds its ready line after ``wait_ready``."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self.log()

    def stop_signal(self) -> None:
        """SIGSTOP: it freezes, its sockets stay."""
        self.freeze()

    def cont(self) -> None:
        self.thaw()

    def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit status, once it ends by itself."""
        return self.process.wait(timeout_s)


@contextmanager
def peer_process(
    *arguments: str, env: dict[str, str] | None = None, ready_s: float | None = 60.0
) -> Iterator[PeerProcess]:
    """One peer, waited for until ready unless ``ready_s`` is None, and killed in the end if it still runs."""
    peer = PeerProcess(*arguments, env=env)
    try:
        if ready_s is not None:
            peer.wait_ready(ready_s)
        yield peer
    finally:
        peer.end()
