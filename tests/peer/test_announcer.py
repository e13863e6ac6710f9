from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from dht.memory import MemoryDirectory, MemoryStore
from dht.records import TTL_S
from peer.announcer import FIRST_RETRY_S, REFRESH_S, Announcer
from swarm.clock import VirtualClock
from swarm.errors import SwarmUnreachable
from swarm.peerinfo import PeerInfo, PeerState
from tests.support.swarm import a_model, a_peer, settle


class ShakyDirectory(MemoryDirectory):
    """Refuses while ``down``, waits while ``held``, and counts."""

    def __init__(self, store: MemoryStore):
        super().__init__(store)
        self.published: list[PeerInfo] = []
        self.withdrawn = 0
        self.down = False
        self.held: asyncio.Event | None = None

    async def publish(self, info: PeerInfo) -> None:
        self.published.append(info)
        if self.held is not None:
            await self.held.wait()
        if self.down:
            raise SwarmUnreachable("nobody answers")
        await super().publish(info)

    async def withdraw(self, info: PeerInfo) -> None:
        self.withdrawn += 1
        if self.down:
            raise SwarmUnreachable("nobody answers")
        await super().withdraw(info)


class Stage:
    """A Peer whose state the test changes, and everything around its Announcer."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.directory = ShakyDirectory(MemoryStore(self.clock))
        self.state = PeerState.READY
        self.announcer = Announcer(self.directory, self.describe, self.clock)

    def describe(self, expires_at: float) -> PeerInfo:
        return a_peer(1, state=self.state, expires_at=expires_at)

    async def seen(self) -> list[PeerState]:
        return [p.state for p in (await self.directory.view(a_model())).peers]

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settle()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """With ``run`` under way."""
    stage = Stage()
    running = asyncio.create_task(stage.announcer.run())
    await settle()
    yield stage
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_peer_is_announced_at_once_and_refreshed_before_it_expires(stage: Stage):
    assert await stage.seen() == [PeerState.READY]
    for _ in range(12):
        await stage.pass_time(REFRESH_S)
        assert await stage.seen() == [PeerState.READY]
    assert len(stage.directory.published) == 13


async def test_a_change_of_state_is_told_when_asked_and_not_only_in_time(stage: Stage):
    stage.state = PeerState.DRAINING
    assert await stage.announcer.announce_now()
    assert await stage.seen() == [PeerState.DRAINING]


async def test_each_announcement_is_described_anew(stage: Stage):
    stage.state = PeerState.DRAINING
    await stage.pass_time(REFRESH_S)
    assert [p.state for p in stage.directory.published] == [PeerState.READY, PeerState.DRAINING]


async def test_a_failure_is_tried_again_soon_then_less_often_and_never_given_up(stage: Stage):
    stage.directory.down = True
    await stage.pass_time(REFRESH_S)
    attempts = len(stage.directory.published)
    for _ in range(60):
        await stage.pass_time(1)
    assert len(stage.directory.published) - attempts == 8  # after 1, 2, 4, 8, 10, 10, 10, 10 seconds
    assert await stage.seen() == []
    stage.directory.down = False
    await stage.pass_time(REFRESH_S)
    assert await stage.seen() == [PeerState.READY]


async def test_a_failed_announcement_says_so_and_raises_nothing(stage: Stage):
    stage.directory.down = True
    assert not await stage.announcer.announce_now()


async def test_expiries_only_rise_even_when_the_wall_clock_is_set_back(stage: Stage):
    stage.clock._wall -= 7
    assert await stage.announcer.announce_now()
    stage.clock._wall -= 7
    assert await stage.announcer.announce_now()
    expiries = [p.expires_at for p in stage.directory.published]
    assert expiries == sorted(set(expiries))


async def test_a_wall_clock_set_far_back_makes_announcements_fail_but_not_the_announcer(stage: Stage):
    stage.clock._wall -= 3600
    assert not await stage.announcer.announce_now()
    await stage.pass_time(REFRESH_S)
    stage.clock._wall += 3600
    assert await stage.announcer.announce_now()


async def test_withdrawal_is_seen_at_once_and_nothing_is_announced_after_it(stage: Stage):
    await stage.announcer.withdraw()
    assert await stage.seen() == []
    await stage.pass_time(3 * REFRESH_S)
    assert not await stage.announcer.announce_now()
    assert await stage.seen() == []
    assert len(stage.directory.published) == 1


async def test_a_withdrawal_waits_for_the_announcement_under_way_and_has_the_last_word(stage: Stage):
    stage.directory.held = asyncio.Event()
    announcing = asyncio.create_task(stage.announcer.announce_now())
    await settle()
    withdrawing = asyncio.create_task(stage.announcer.withdraw())
    await settle()
    assert not withdrawing.done()
    stage.directory.held.set()
    await withdrawing
    assert await announcing
    assert await stage.seen() == []


async def test_a_withdrawal_that_fails_raises_nothing_and_the_record_expires_by_itself(stage: Stage):
    stage.directory.down = True
    await stage.announcer.withdraw()
    assert await stage.seen() == [PeerState.READY]
    await stage.pass_time(TTL_S)
    assert await stage.seen() == []


async def test_what_was_never_announced_needs_no_withdrawal():
    stage = Stage()
    await stage.announcer.withdraw()
    await stage.announcer.run()
    assert stage.directory.published == []


async def test_a_peer_withdraws_once_however_often_it_is_told(stage: Stage):
    await stage.announcer.withdraw()
    await stage.announcer.withdraw()
    assert stage.directory.withdrawn == 1


async def test_a_peer_insists_on_being_announced(stage: Stage):
    stage.directory.down = True
    insisting = asyncio.create_task(stage.announcer.announce_until(asyncio.Event()))
    await settle()
    assert not insisting.done()
    stage.directory.down = False
    await stage.pass_time(FIRST_RETRY_S)
    assert await insisting


async def test_a_peer_that_is_told_to_leave_does_not_insist_on_being_announced(stage: Stage):
    leaving = asyncio.Event()
    stage.directory.down = True
    insisting = asyncio.create_task(stage.announcer.announce_until(leaving))
    await settle()
    leaving.set()
    assert not await insisting


async def test_a_peer_that_is_told_to_leave_does_not_wait_for_an_announcement_under_way(stage: Stage):
    leaving = asyncio.Event()
    stage.directory.held = asyncio.Event()
    insisting = asyncio.create_task(stage.announcer.announce_until(leaving))
    await settle()
    leaving.set()
    assert not await insisting
    stage.directory.held.set()
    await stage.announcer.withdraw()
    assert await stage.seen() == []


async def test_what_breaks_while_announcing_is_not_hidden():
    def broken(expires_at: float) -> PeerInfo:
        raise ZeroDivisionError

    stage = Stage()
    with pytest.raises(ZeroDivisionError):
        await Announcer(stage.directory, broken, stage.clock).announce_until(asyncio.Event())
