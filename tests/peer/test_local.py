from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peer import local

OWNER = """
import time
from peer.local import LocalPeer
peer = LocalPeer("--blocks", "0:2", "--threads", "1", "--log-level", "error")
print(peer.process.pid, flush=True)
peer.wait_ready()
print("ready", flush=True)
time.sleep(600)
"""


class Interrupted:
    """A LocalPeer during whose start its owner is told to leave."""

    def __init__(self, *arguments: str):
        os.kill(os.getpid(), signal.SIGTERM)
        self.ended = False

    def end(self) -> None:
        self.ended = True


def test_a_signal_while_a_process_starts_leaves_it_in_the_books(monkeypatch: pytest.MonkeyPatch):
    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    monkeypatch.setattr(local, "LocalPeer", Interrupted)
    before = signal.signal(signal.SIGTERM, leave)
    swarm = local.LocalSwarm()
    try:
        with pytest.raises(SystemExit), swarm:
            swarm.start(["0:12"])
        assert signal.getsignal(signal.SIGTERM) is leave
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [peer.ended for peer in swarm.peers] == [True]  # type: ignore[attr-defined]


def gone(pid: int) -> bool:
    """Whether the process has ended, be it that nobody has asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.swarm
@pytest.mark.parametrize("ready", [False, True])
def test_a_peer_ends_with_the_process_that_started_it(ready: bool):
    """Killed, that one cannot see to it itself."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=local.ROOT)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    try:
        if ready:
            assert owner.stdout.readline() == "ready\n"
        owner.kill()
        owner.wait()
        deadline = time.monotonic() + 30
        while not gone(pid):
            assert time.monotonic() < deadline, "the peer is still there"
            time.sleep(0.05)
    finally:
        owner.stdout.close()
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
