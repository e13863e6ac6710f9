"""What peers that are silent on purpose cost a Session, and who is blamed when the trouble is our own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.bans import Bans
from client.config import ClientConfig
from client.journal import Budget
from client.session import Request, Session
from proto.messages import Open
from swarm.errors import UsageError
from swarm.peerinfo import PeerInfo
from swarm.sampling import SamplingParams
from tests.client.fakes import HIDDEN, MODEL, VOCAB, FakePeer, FakeSwarm, run, undisturbed


class Remembering(FakeSwarm):
    """Its bans end, as the Watcher's do."""

    def __init__(self, *peers: FakePeer):
        self.bans: Bans | None = None
        super().__init__(*peers)
        self.bans = Bans(self.clock)

    @property
    def banned(self) -> set[str]:
        return {p.info.peer_id for p in self.peers.values() if self.bans is not None and self.bans.holds(p.info)}

    @banned.setter
    def banned(self, value: set[str]) -> None:
        assert not value

    def ban(self, peer: PeerInfo, reason: str = "") -> None:
        assert self.bans is not None
        self.bans.add(peer, reason)

    def forgive(self, peer: PeerInfo) -> None:
        assert self.bans is not None
        self.bans.forgive(peer)


def silent(number: int) -> FakePeer:
    """Answers Info and the Hello, and no Open."""
    peer = FakePeer(number, 0, 6)
    peer.misdeed = lambda entry, body: None
    return peer


async def test_peers_that_never_answer_an_open_are_tried_once_each_before_the_honest_one():
    bad = [silent(n) for n in range(1, 6)]
    swarm = Remembering(*bad, FakePeer(9, 0, 6))
    assert await run(swarm.session()) == await undisturbed()
    assert swarm.clock.monotonic() < 5 * 5.0 + 1
    assert [len(peer.talks) for peer in bad] == [1] * 5
    begun = swarm.clock.monotonic()
    assert await run(swarm.session()) == await undisturbed()
    assert swarm.clock.monotonic() == begun, "the next session does not ask them again"


async def test_a_peer_that_takes_seats_and_no_steps_costs_a_quarter_of_a_minute():
    bad = FakePeer(1, 0, 6)
    bad.misdeed = lambda entry, body: body if isinstance(entry.body, Open) else None
    swarm = Remembering(bad, FakePeer(2, 0, 6))
    assert await run(swarm.session()) == await undisturbed()
    assert 5 < swarm.clock.monotonic() <= 16


async def test_the_only_holder_of_blocks_is_asked_again_within_patience_though_the_ban_is_longer():
    peer = silent(1)
    swarm = Remembering(peer)
    swarm.clock.alarms.append((5.5, lambda: setattr(peer, "misdeed", None)))
    assert await run(swarm.session()) == await undisturbed()
    assert swarm.clock.monotonic() < ClientConfig().patience_s + 5


@pytest.mark.parametrize(
    "changes",
    [{"prompt": (1, -1)}, {"prompt": (1, 1 << 32)}, {"prompt": (1, 2.5)}, {"prompt": ("1",)}, {"profile": "\ud800"}],
)
def test_a_request_that_fits_no_message_is_told_and_nobody_is_blamed(changes: dict[str, object]):
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    request = replace(Request(MODEL, "c8", (1, 2), 8, SamplingParams(), HIDDEN, VOCAB), **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="fits no message"):
        Session(request, swarm, swarm, Budget(1 << 20), ClientConfig(), clock=swarm.clock)
    assert not swarm.banned and not swarm.log
