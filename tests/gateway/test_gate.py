"""Places are given in order, waits end, and nothing is lost when a waiter goes."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import ApiError
from gateway.gate import Gate
from swarm.clock import VirtualClock


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Visitor:
    """Holds its places until it is told to leave."""

    def __init__(self, gate: Gate, answers: int = 1):
        self.inside, self.waited_s, self._leave = False, -1.0, asyncio.Event()
        self.task = asyncio.create_task(self._visit(gate, answers))

    async def _visit(self, gate: Gate, answers: int) -> None:
        async with gate.enter(answers) as self.waited_s:
            self.inside = True
            await self._leave.wait()

    async def leave(self) -> None:
        self._leave.set()
        await self.task


async def test_who_finds_no_place_waits_for_one_in_order():
    clock = VirtualClock()
    gate = Gate(2, 10, 30, clock)
    visitors = [Visitor(gate) for _ in range(4)]
    await settle()
    assert [v.inside for v in visitors] == [True, True, False, False] and (gate.running, gate.waiting) == (2, 2)
    clock.advance(3)
    await visitors[0].leave()
    await settle()
    assert [v.inside for v in visitors[1:]] == [True, True, False] and visitors[2].waited_s == 3
    for visitor in visitors[1:]:
        await visitor.leave()
    await asyncio.wait_for(gate.empty(), 1)


async def test_a_small_request_does_not_overtake_a_large_one():
    gate = Gate(4, 10, 30, VirtualClock())
    first, large, small = Visitor(gate, 2), Visitor(gate, 4), Visitor(gate, 1)
    await settle()
    assert (first.inside, large.inside, small.inside) == (True, False, False)
    await first.leave()
    await settle()
    assert (large.inside, small.inside) == (True, False)
    await large.leave()
    await small.leave()


async def test_one_that_is_larger_than_the_house_gets_all_of_it():
    gate = Gate(4, 10, 30, VirtualClock())
    visitor = Visitor(gate, 100)
    await settle()
    assert visitor.inside
    await visitor.leave()


async def test_a_full_queue_refuses_at_once():
    gate = Gate(1, 1, 30, VirtualClock())
    visitors = [Visitor(gate), Visitor(gate)]
    await settle()
    with pytest.raises(ApiError, match="full") as refused:
        async with gate.enter(1):
            pass
    assert refused.value.status == 503 and refused.value.headers["retry-after"] == "2"
    for visitor in visitors:
        await visitor.leave()


async def test_a_wait_that_is_too_long_ends_and_leaves_no_trace():
    clock = VirtualClock()
    gate = Gate(1, 5, 30, clock)
    inside, impatient, patient = Visitor(gate), Visitor(gate), Visitor(gate)
    await settle()
    clock.advance(30)
    await settle()
    with pytest.raises(ApiError, match="no place within 30 s"):
        await impatient.task
    with pytest.raises(ApiError):
        await patient.task
    assert gate.waiting == 0
    await inside.leave()
    await asyncio.wait_for(gate.empty(), 1)


async def test_a_waiter_that_goes_makes_way_for_those_behind_it():
    gate = Gate(4, 5, 30, VirtualClock())
    inside, large, small = Visitor(gate, 3), Visitor(gate, 4), Visitor(gate, 1)
    await settle()
    large.task.cancel()
    await settle()
    assert small.inside
    await inside.leave()
    await small.leave()
    await asyncio.wait_for(gate.empty(), 1)


async def test_a_waiter_that_goes_as_it_is_let_in_gives_its_place_back():
    gate = Gate(1, 5, 30, VirtualClock())
    inside, waiting = Visitor(gate), Visitor(gate)
    await settle()
    inside._leave.set()
    await asyncio.sleep(0)  # the place is handed over; ``waiting`` has not run yet
    waiting.task.cancel()
    await settle()
    last = Visitor(gate)
    await settle()
    assert last.inside
    await last.leave()
    await inside.task
