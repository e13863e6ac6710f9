from __future__ import annotations

import os
import signal

import pytest

from peer import local


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
