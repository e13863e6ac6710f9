"""``shoal demo`` as a newcomer runs it: the loss is shown, the text is the same, nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest


def children_of(pid: int) -> list[int]:
    done = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_loses_a_peer_and_finishes_the_same_text():
    done = subprocess.run(
        [sys.executable, "-m", "shoal", "demo"], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "killed with SIGKILL" in done.stdout
    assert "identical, token for token" in " ".join(done.stdout.split())
    assert "Try next" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_told_to_stop_takes_its_peers_along(number: signal.Signals):
    demo = subprocess.Popen([sys.executable, "-m", "shoal", "demo"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not (peers := children_of(demo.pid)):
            assert time.monotonic() < deadline, "the demo started no peer"
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert b"Traceback" not in errors
    assert demo.returncode == 128 + number
    assert not any(alive(peer) for peer in peers)
