"""Links over real sockets: shared, replaced when dead, checked for who answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.config import ClientConfig
from client.links import APART_S, Links
from swarm.clock import SystemClock, VirtualClock
from swarm.errors import DeadLink, Fault, WrongModel
from tests.client.loopback import Loopback


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Loopback]:
    async with Loopback([(0, 6), (0, 6)], tmp_path) as loopback:
        yield loopback


@pytest.fixture
async def links() -> AsyncIterator[Links]:
    made = Links(ClientConfig(dial_timeout_s=20.0, probe_timeout_s=10.0), SystemClock())
    yield made
    await made.close()


async def test_many_callers_share_one_link(swarm: Loopback, links: Links):
    peer = swarm.peers[0].info
    got = await asyncio.gather(*(links.get(peer) for _ in range(10)))
    assert len(set(map(id, got))) == 1 and swarm.peers[0].links == 1
    assert await links.get(peer) is got[0]


async def test_one_caller_who_gives_up_does_not_disturb_the_others(swarm: Loopback, links: Links):
    peer = swarm.peers[0].info
    first, second = asyncio.create_task(links.get(peer)), asyncio.create_task(links.get(peer))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).alive
    assert first.cancelled()


async def test_a_dead_link_is_replaced_when_asked_for(swarm: Loopback, links: Links):
    peer = swarm.peers[0].info
    first = await links.get(peer)
    await first.close()
    second = await links.get(peer)
    assert second is not first and second.alive


async def test_nobody_at_the_address_is_a_dead_link_every_time(swarm: Loopback, links: Links):
    peer = swarm.peers[0].info
    await swarm.stop(0)
    for _ in range(2):
        with pytest.raises(DeadLink, match="refused"):
            await links.get(peer)
    assert await links.responsive(peer) is None


async def test_somebody_else_at_the_address_is_not_taken_for_the_peer(swarm: Loopback, links: Links):
    impostor = replace(swarm.peers[0].info, address=swarm.peers[1].info.address)
    with pytest.raises(WrongModel, match="was expected"):
        await links.get(impostor)
    with pytest.raises(WrongModel, match="was expected"):
        await links.info(impostor, 20.0)


async def test_a_restarted_peer_gets_a_new_link_and_the_old_one_is_closed(swarm: Loopback, links: Links):
    peer = swarm.peers[0].info
    old = await links.get(peer)
    new = await links.get(replace(peer, instance=peer.instance + 1))
    assert new is not old and new.alive and not old.alive


async def test_a_caller_whose_dialling_is_overtaken_hears_a_fault_and_is_not_cancelled(swarm: Loopback, links: Links):
    peer = swarm.peers[0].info
    overtaken = asyncio.create_task(links.get(peer))
    await asyncio.sleep(0)
    await links.get(replace(peer, instance=peer.instance + 1))
    with pytest.raises(Fault):
        await overtaken


async def test_a_probe_takes_its_time_and_says_how_long(swarm: Loopback, links: Links):
    peer = swarm.peers[0].info
    assert 0 < await links.probe(peer) < 20
    answer = await links.responsive(peer)
    assert answer is not None and answer.peer_id == peer.peer_id


async def test_channels_to_peers_that_are_gone_are_closed_once_nobody_uses_them(swarm: Loopback, links: Links):
    first, second = (each.info for each in swarm.peers)
    link = await links.get(first)
    await links.probe(second)
    links.keep([first, second])
    assert len(links) == 2
    links.keep([])
    assert len(links) == 1 and link.alive, "a Session may live on it, whatever the directory says"
    await link.close()
    links.keep([first])
    assert len(links) == 1
    links.keep([])
    assert len(links) == 0


async def test_a_question_under_way_keeps_its_channel(swarm: Loopback, links: Links):
    peer = swarm.peers[0].info
    question = asyncio.create_task(links.probe(peer))
    await asyncio.sleep(0)
    links.keep([])
    assert await question > 0


async def test_a_question_whose_channel_is_closed_ends_in_a_fault_and_not_in_a_cancellation(
    swarm: Loopback, links: Links
):
    peer = swarm.peers[0].info
    question = asyncio.create_task(links.probe(peer))
    await asyncio.sleep(0)
    await links.close()
    with pytest.raises(Fault):
        await question


async def test_closing_closes_every_link_even_one_being_dialled(swarm: Loopback, links: Links):
    first, second = (each.info for each in swarm.peers)
    link = await links.get(first)
    dialling = asyncio.create_task(links.get(second))
    await asyncio.sleep(0)
    await links.close()
    assert not link.alive
    with pytest.raises(Fault):
        await dialling


async def test_a_pair_that_was_found_apart_is_tried_again_after_a_while(swarm: Loopback):
    clock = VirtualClock()
    links = Links(ClientConfig(), clock)
    one, other = (each.info for each in swarm.peers)
    assert not links.apart(one, other)
    links.set_apart(one, other)
    assert links.apart(one, other) and not links.apart(other, one), "a way there is not a way back"
    clock.advance(APART_S)
    assert not links.apart(one, other)
    await links.close()
