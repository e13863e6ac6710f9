"""What can only be told of the in-process twin, where time stands still. All else is in test_directory."""

from __future__ import annotations

import pytest

from dht.memory import MemoryDirectory, MemoryStore
from swarm.clock import VirtualClock
from swarm.errors import SwarmUnreachable
from tests.support.swarm import a_model, a_peer


async def test_a_record_is_gone_the_moment_it_expires():
    clock = VirtualClock()
    directory = MemoryDirectory(MemoryStore(clock))
    await directory.publish(a_peer(1, expires_at=clock.wall() + 45))
    clock.advance(44.9)
    assert len((await directory.view(a_model())).peers) == 1
    clock.advance(0.1)
    assert (await directory.view(a_model())).peers == ()
    assert await directory.models() == ()


async def test_what_has_expired_takes_no_room():
    clock = VirtualClock()
    store = MemoryStore(clock)
    directory = MemoryDirectory(store)
    await directory.publish(a_peer(1, "0:8", expires_at=clock.wall() + 45))
    clock.advance(50)
    await directory.view(a_model(8))
    assert not store.held[next(k for k in store.held if k.endswith("/0"))]


async def test_a_closed_directory_says_so():
    directory = MemoryDirectory(MemoryStore(VirtualClock()))
    await directory.close()
    for call in (
        directory.view(a_model()),
        directory.models(),
        directory.publish(a_peer()),
        directory.withdraw(a_peer()),
    ):
        with pytest.raises(SwarmUnreachable, match="closed"):
            await call


async def test_swarms_with_different_stores_do_not_see_each_other():
    clock = VirtualClock()
    here, there = MemoryDirectory(MemoryStore(clock)), MemoryDirectory(MemoryStore(clock))
    await here.publish(a_peer())
    assert (await there.view(a_model())).peers == ()
