from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from client.watcher import (
    EVERY_S,
    FIRST_PROBES_S,
    LOST_RTT_S,
    PROBE_EVERY_S,
    PROBE_TIMEOUT_S,
    PROBES_AT_ONCE,
    UNKNOWN_RTT_S,
    Watcher,
)
from dht.memory import MemoryDirectory, MemoryStore
from swarm.clock import VirtualClock
from swarm.errors import DeadLink, SwarmUnreachable
from swarm.peerinfo import ModelRef, PeerInfo
from swarm.view import SwarmView
from tests.support.swarm import a_model, a_peer, settle


class ShakyDirectory(MemoryDirectory):
    """Refuses while ``down``, waits while ``held``, and counts."""

    down = False
    held: asyncio.Event | None = None
    looks = 0

    async def view(self, model: ModelRef) -> SwarmView:
        self.looks += 1
        if self.held is not None:
            await self.held.wait()
        if self.down:
            raise SwarmUnreachable("nobody answers")
        return await super().view(model)


class Stage:
    """A swarm, the distances in it, and a Watcher that is not yet started."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.directory = ShakyDirectory(MemoryStore(self.clock))
        self.rtts: dict[str, list[float]] = {}  # by peer_id: the answers to come; the last is repeated
        self.dead: set[str] = set()
        self.frozen: set[str] = set()
        self.probes: list[str] = []
        self.kept: list[list[str]] = []  # at every look
        self.at_once = self.most_at_once = 0
        self.gate: asyncio.Event | None = None
        self.watcher = Watcher(self.directory, a_model(), self, self.clock)

    def keep(self, peers: Iterable[PeerInfo]) -> None:
        self.kept.append([peer.peer_id for peer in peers])

    async def probe(self, peer: PeerInfo) -> float:
        self.probes.append(peer.peer_id)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if peer.peer_id in self.frozen:
                await asyncio.Event().wait()
            if peer.peer_id in self.dead:
                raise DeadLink("connection refused")
            answers = self.rtts.get(peer.peer_id, [0.1])
            return answers.pop(0) if len(answers) > 1 else answers[0]
        finally:
            self.at_once -= 1

    async def join(self, *peers: PeerInfo) -> None:
        for peer in peers:
            await self.directory.publish(replace(peer, expires_at=self.clock.wall() + 120))

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settle(50)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.watcher.close()


ONE, TWO = a_peer(1), a_peer(2)


async def test_the_first_view_comes_with_latencies(stage: Stage):
    await stage.join(ONE)
    stage.rtts[ONE.peer_id] = [0.07]
    view = await stage.watcher.first_view(5)
    assert [p.peer_id for p in view.peers] == [ONE.peer_id]
    assert stage.watcher.view is view
    assert stage.watcher.rtt_s(ONE) == 0.07


async def test_before_the_first_view_there_is_an_empty_one(stage: Stage):
    assert stage.watcher.view.peers == ()
    assert stage.watcher.banned == frozenset()
    assert stage.watcher.rtt_s(ONE) == UNKNOWN_RTT_S


async def test_a_peer_that_is_frozen_does_not_keep_the_first_view_from_anybody(stage: Stage):
    await stage.join(ONE, TWO)
    stage.frozen = {ONE.peer_id}
    waiting = asyncio.create_task(stage.watcher.first_view(5))
    await settle(50)
    assert not waiting.done()
    await stage.pass_time(FIRST_PROBES_S)
    assert len((await waiting).peers) == 2
    assert stage.watcher.rtt_s(TWO) == 0.1


async def test_without_a_view_in_time_the_reason_is_told(stage: Stage):
    stage.directory.down = True
    waiting = asyncio.create_task(stage.watcher.first_view(5))
    await settle()
    await stage.pass_time(5)
    with pytest.raises(SwarmUnreachable, match="within 5 s: nobody answers"):
        await waiting


async def test_a_swarm_that_answers_late_is_still_seen_in_time(stage: Stage):
    stage.directory.down = True
    waiting = asyncio.create_task(stage.watcher.first_view(5))
    await settle()
    stage.directory.down = False
    await stage.pass_time(EVERY_S)
    assert (await waiting).peers == ()


async def test_newcomers_are_seen_in_time_and_at_once_when_asked(stage: Stage):
    await stage.watcher.first_view(5)
    await stage.join(ONE)
    assert stage.watcher.view.peers == ()
    await stage.pass_time(EVERY_S)
    assert len(stage.watcher.view.peers) == 1
    await stage.join(TWO)
    await stage.watcher.refresh()
    assert len(stage.watcher.view.peers) == 2


async def test_many_who_ask_at_the_same_time_share_one_look_and_one_that_gives_up_does_not_end_it(stage: Stage):
    await stage.watcher.first_view(5)
    before = stage.directory.looks
    stage.directory.held = asyncio.Event()
    asking = [asyncio.create_task(stage.watcher.refresh()) for _ in range(30)]
    await settle()
    asking[0].cancel()
    await settle()
    stage.directory.held.set()
    await asyncio.gather(*asking[1:])
    assert stage.directory.looks == before + 1


async def test_the_prober_hears_at_every_look_who_is_there(stage: Stage):
    await stage.join(ONE, TWO)
    await stage.watcher.first_view(5)
    stage.clock.advance(1)
    await stage.directory.withdraw(TWO)
    await stage.watcher.refresh()
    stage.directory.down = True
    await stage.watcher.refresh()
    assert stage.kept == [[ONE.peer_id, TWO.peer_id], [ONE.peer_id]], "a failed look is none"


async def test_when_the_swarm_cannot_be_asked_the_last_picture_stays(stage: Stage):
    await stage.join(ONE)
    await stage.watcher.first_view(5)
    stage.directory.down = True
    await stage.pass_time(200)
    await stage.watcher.refresh()
    assert len(stage.watcher.view.peers) == 1
    stage.directory.down = False
    await stage.watcher.refresh()
    assert stage.watcher.view.peers == ()


async def test_the_first_answer_pays_for_the_connection_and_does_not_count(stage: Stage):
    await stage.join(ONE)
    stage.rtts[ONE.peer_id] = [0.9, 0.03]
    await stage.watcher.first_view(5)
    assert stage.watcher.rtt_s(ONE) == 0.03


async def test_latency_is_the_median_of_the_last_few_probes(stage: Stage):
    await stage.join(ONE)
    stage.rtts[ONE.peer_id] = [0.9, 0.03, 0.04, 0.5, 0.05, 0.02, 0.5, 0.5]
    await stage.watcher.first_view(5)
    seen: list[float] = []
    for _ in range(6):
        await stage.pass_time(PROBE_EVERY_S)
        await stage.join(ONE)
        seen.append(stage.watcher.rtt_s(ONE))
    assert seen == pytest.approx([0.035, 0.04, 0.045, 0.04, 0.05, 0.5])


async def test_a_peer_is_not_probed_at_every_look(stage: Stage):
    await stage.join(ONE)
    await stage.watcher.first_view(5)
    for _ in range(4):
        await stage.watcher.refresh()
    assert len(stage.probes) == 2


@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_a_peer_that_does_not_answer_a_probe_is_taken_last_until_it_does(stage: Stage, how: str):
    await stage.join(ONE)
    await stage.watcher.first_view(5)
    setattr(stage, how, {ONE.peer_id})
    await stage.pass_time(PROBE_EVERY_S)
    await stage.pass_time(PROBE_TIMEOUT_S)
    assert stage.watcher.rtt_s(ONE) == LOST_RTT_S
    assert stage.watcher.banned == frozenset(), "a lost probe is no proof"
    setattr(stage, how, set())
    await stage.pass_time(PROBE_EVERY_S)
    assert stage.watcher.rtt_s(ONE) == 0.1


async def test_a_restarted_peer_is_probed_anew(stage: Stage):
    await stage.join(ONE)
    await stage.watcher.first_view(5)
    again = replace(ONE, instance=2)
    await stage.pass_time(0.1)
    await stage.join(again)
    stage.rtts[ONE.peer_id] = [0.9, 0.3]
    await stage.watcher.refresh()
    assert stage.watcher.rtt_s(again) == UNKNOWN_RTT_S
    await settle(50)
    assert stage.watcher.rtt_s(again) == 0.3


async def test_only_a_few_probes_run_at_once(stage: Stage):
    stage.gate = asyncio.Event()
    await stage.join(*(a_peer(n) for n in range(1, 31)))
    stage.watcher.start()
    await settle(50)
    assert stage.at_once == PROBES_AT_ONCE
    stage.gate.set()
    await settle(200)
    assert stage.most_at_once == PROBES_AT_ONCE and len(set(stage.probes)) == 30


async def test_in_a_large_swarm_everybody_is_probed_in_turn(stage: Stage):
    """Also those at the end, for whom there is no turn left before those at the beginning are due again."""
    await stage.join(*(a_peer(n) for n in range(1, 201)))
    stage.watcher.start()
    await settle(100)
    for _ in range(6):
        await stage.pass_time(EVERY_S)
        await settle(100)
    assert len(set(stage.probes)) == 200


async def test_a_banned_peer_is_named_while_it_is_in_view_and_a_restart_frees_it(stage: Stage):
    await stage.join(ONE, TWO)
    await stage.watcher.first_view(5)
    stage.watcher.ban(ONE, "no answer within the step's deadline")
    assert stage.watcher.banned == {ONE.peer_id}
    await stage.pass_time(30)
    assert stage.watcher.banned == frozenset()
    stage.watcher.ban(ONE)
    await stage.join(replace(ONE, instance=2))
    await stage.watcher.refresh()
    assert stage.watcher.banned == frozenset()


async def test_an_answered_probe_forgives_nothing_but_real_work_does(stage: Stage):
    await stage.join(ONE)
    await stage.watcher.first_view(5)
    await stage.pass_time(PROBE_EVERY_S - 1)
    stage.watcher.ban(ONE, "wrong numbers")
    probes = len(stage.probes)
    await stage.pass_time(1)
    await stage.watcher.refresh()
    await settle(50)
    assert len(stage.probes) > probes and stage.watcher.banned == {ONE.peer_id}
    stage.watcher.forgive(ONE)
    assert stage.watcher.banned == frozenset()


async def test_closing_ends_everything_even_in_the_midst_of_it():
    stage = Stage()
    await stage.join(ONE)
    stage.frozen = {ONE.peer_id}
    async with stage.watcher:
        await settle()
        assert stage.probes
    await settle()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [t for t in others if not t.done()]


async def test_a_watcher_that_never_started_can_be_closed():
    await Stage().watcher.close()
