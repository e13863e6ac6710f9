"""What Hops say waits in order, within bounds, for one reader."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from client import mailbox as module
from client.mailbox import Mailbox
from proto.messages import Done, Entry
from swarm.errors import DeadLink, Overflow, Timeout
from tests.support.virtual_loop import virtually

ONE, OTHER = SimpleNamespace(hop="one"), SimpleNamespace(hop="other")


def entry(step: int) -> Entry:
    return Entry(b"s" * 16, 0, Done(step, step))


@virtually
async def test_everything_comes_in_the_order_in_which_it_was_put():
    box = Mailbox()
    fault = DeadLink("gone")
    box.put(ONE, entry(1))
    box.put(OTHER, entry(2))
    box.put(ONE, fault)
    assert [await box.get(1.0) for _ in range(3)] == [(ONE, entry(1)), (OTHER, entry(2)), (ONE, fault)]


@virtually
async def test_a_reader_waits_for_what_comes_and_no_longer_than_it_said():
    box, loop = Mailbox(), asyncio.get_running_loop()
    loop.call_later(2.0, box.put, ONE, entry(1))
    begun = loop.time()
    with pytest.raises(Timeout, match=r"within 1\.5 s"):
        await box.get(1.5)
    assert loop.time() - begun == pytest.approx(1.5)
    assert await box.get(1.5) == (ONE, entry(1))
    assert loop.time() - begun == pytest.approx(2.0)


@virtually
async def test_a_reader_that_is_cancelled_loses_nothing():
    box = Mailbox()
    reading = asyncio.create_task(box.get(10.0))
    await asyncio.sleep(0)
    box.put(ONE, entry(1))
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert len(box) == 1 and await box.get(1.0) == (ONE, entry(1))


@virtually
async def test_what_a_lost_hop_said_is_forgotten_and_nothing_else():
    box = Mailbox()
    for step in range(3):
        box.put(ONE, entry(step))
        box.put(OTHER, entry(step))
    box.drop(ONE)
    assert [await box.get(1.0) for _ in range(3)] == [(OTHER, entry(step)) for step in range(3)]
    assert len(box) == 0


@virtually
async def test_who_says_more_than_is_read_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)
    box = Mailbox()
    for step in range(3):
        box.put(ONE, entry(step))
    *_, (lane, item) = [await box.get(1.0) for _ in range(3)]
    assert lane is ONE and isinstance(item, Overflow) and "2 entries" in str(item)


@virtually
async def test_the_bound_is_of_bytes_too_and_reading_makes_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_BYTES", module.entry_bytes(entry(1)))
    box = Mailbox()
    for step in range(5):
        box.put(ONE, entry(step))
        assert await box.get(1.0) == (ONE, entry(step))
    box.put(ONE, entry(5))
    box.put(ONE, entry(6))
    await box.get(1.0)
    assert isinstance((await box.get(1.0))[1], Overflow)
