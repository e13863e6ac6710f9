from __future__ import annotations

import asyncio

from swarm.clock import SystemClock, VirtualClock
from tests.support.swarm import settle


async def test_a_virtual_sleeper_wakes_when_the_clock_has_moved_far_enough_and_not_before():
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(10))
    await settle()
    clock.advance(9)
    await settle()
    assert not task.done()
    clock.advance(1)
    await settle()
    assert task.done()


async def test_a_sleeper_that_gave_up_is_forgotten():
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(10))
    await settle()
    task.cancel()
    await settle()
    clock.advance(20)
    assert task.cancelled()


async def test_no_time_passes_in_a_sleep_of_nothing():
    await VirtualClock().sleep(0)
    await SystemClock().sleep(0)


def test_both_clocks_of_a_virtual_clock_move_together():
    clock = VirtualClock(wall=100.0, monotonic=5.0)
    clock.advance(2.5)
    assert (clock.wall(), clock.monotonic()) == (102.5, 7.5)


def test_the_system_clock_tells_the_time():
    clock = SystemClock()
    assert clock.wall() > 1_700_000_000
    assert clock.monotonic() <= clock.monotonic()
