from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from model.config import read_config
from peer.around import FRESH_S, VIEW_S, Announced, limits_for, warn_of_namesakes
from proto.messages import Neighbour
from proto.options import MAX_MESSAGE_BYTES
from swarm.clock import VirtualClock
from swarm.errors import SwarmError
from swarm.peerinfo import ModelRef, PeerInfo
from swarm.view import SwarmView
from tests.support.checkpoints import make_checkpoint
from tests.support.swarm import a_model, a_peer, a_view, settle


class Counting:
    """A directory that counts how often it is asked; it answers once ``open`` is set."""

    def __init__(self, *peers: PeerInfo, models: tuple[ModelRef, ...] = ()):
        self.peers, self.listed, self.looks = list(peers), models, 0
        self.open = asyncio.Event()
        self.open.set()

    async def view(self, model: ModelRef) -> SwarmView:
        self.looks += 1
        await self.open.wait()
        return a_view(*self.peers, model=model)

    async def models(self) -> tuple[ModelRef, ...]:
        if not self.listed:
            raise SwarmError("nobody is there")
        return self.listed


@dataclass
class Place:
    peer: PeerInfo

    @property
    def seat(self) -> Neighbour:
        return Neighbour(self.peer.peer_id, self.peer.address, bytes(16), 16)


async def test_whoever_is_announced_may_be_dialled_and_nobody_else():
    directory, clock = Counting(a_peer(1), a_peer(2)), VirtualClock()
    known = Announced(directory, a_model(), clock)  # type: ignore[arg-type]
    one = Place(a_peer(1)).seat
    assert await known(one) and await known(Place(a_peer(2)).seat)
    assert directory.looks == 1
    assert not await known(replace(one, address="10.9.9.9:22")), "an address that nobody announced"
    assert not await known(replace(one, peer_id="f" * 32))
    assert directory.looks == 1, "not asked again at once"


async def test_who_is_not_known_is_looked_up_again_once_a_second():
    directory, clock = Counting(a_peer(1)), VirtualClock()
    known = Announced(directory, a_model(), clock)  # type: ignore[arg-type]
    late = Place(a_peer(3)).seat
    assert not await known(late)
    directory.peers.append(a_peer(3))
    for _ in range(5):
        assert not await known(late)
    clock.advance(VIEW_S)
    assert await known(late)
    assert directory.looks == 2


async def test_who_asks_while_the_swarm_is_looked_at_waits_for_what_is_found():
    """Two Seats get their Paths at once, to different neighbours: neither is to be told that nobody is there."""
    directory = Counting(a_peer(1), a_peer(2))
    directory.open.clear()
    known = Announced(directory, a_model(), VirtualClock())  # type: ignore[arg-type]
    asking = [asyncio.create_task(known(Place(a_peer(n)).seat)) for n in (1, 2, 3)]
    await settle()
    directory.open.set()
    assert await asyncio.gather(*asking) == [True, True, False]
    assert directory.looks == 1


async def test_a_look_that_failed_does_not_lock_the_door():
    directory, clock = Counting(a_peer(1)), VirtualClock()

    async def fail(model: ModelRef) -> SwarmView:
        raise SwarmError("the swarm does not answer")

    answer, directory.view = directory.view, fail  # type: ignore[method-assign]
    known = Announced(directory, a_model(), clock)  # type: ignore[arg-type]
    with pytest.raises(SwarmError):
        await known(Place(a_peer(1)).seat)
    directory.view = answer  # type: ignore[method-assign]
    clock.advance(VIEW_S)
    assert await known(Place(a_peer(1)).seat)


async def test_other_weights_under_the_same_name_are_warned_of():
    ours, theirs = a_model(), a_model(digit="b")
    with capture_logs() as logs:
        await warn_of_namesakes(ours, Counting(models=(ours, theirs, a_model(name="else", digit="c"))))  # type: ignore[arg-type]
    assert [(line["ours"], line["other"]) for line in logs] == [(ours.fingerprint, theirs.fingerprint)]


async def test_a_swarm_that_does_not_tell_its_models_is_no_obstacle():
    with capture_logs() as logs:
        await warn_of_namesakes(a_model(), Counting())  # type: ignore[arg-type]
    assert [line["log_level"] for line in logs] == ["warning"]


def test_limits_are_a_full_chunk_and_what_the_model_says(tmp_path: Path):
    make_checkpoint(tmp_path)
    model = read_config(tmp_path, "tiny")
    limits = limits_for(model, 16)
    assert (limits.hidden_size, limits.vocab_size) == (model.hidden_size, model.vocab_size)
    assert (limits.max_chunk_tokens, limits.max_tokens) == (16, model.max_positions)
    assert 16 * model.hidden_size * 4 < limits.max_frame_bytes <= MAX_MESSAGE_BYTES
    assert limits_for(model, 1 << 20).max_frame_bytes == MAX_MESSAGE_BYTES


async def test_it_looks_by_itself_so_that_nobody_waits_and_nobody_stays_for_ever():
    directory, clock = Counting(a_peer(1)), VirtualClock()
    known = Announced(directory, a_model(), clock)  # type: ignore[arg-type]
    running = asyncio.create_task(known.run())
    await settle()
    assert await known(Place(a_peer(1)).seat) and directory.looks == 1
    directory.peers.clear()
    clock.advance(FRESH_S)
    await settle()
    assert not await known(Place(a_peer(1)).seat) and directory.looks == 2
    running.cancel()
