from __future__ import annotations

import asyncio
import socket

import pytest

from dht.doors import KNOCK_EVERY_S, LONELY_KNOCK_S, Door, Doors
from swarm.clock import VirtualClock
from swarm.errors import SwarmUnreachable
from tests.support.swarm import settle


class House:
    """What lies behind the doors: who opens, who does not, who says why, and who was asked."""

    def __init__(self, *names: str):
        self.clock = VirtualClock()
        self.opens: set[str] = set()
        self.hangs: set[str] = set()
        self.reasons: dict[str, str] = {}
        self.neighbours: set[str] = set()
        self.asked: list[str] = []
        doors = [Door(name, None, b"", "", 0) for name in names]
        self.doors = Doors(doors, self.clock, lambda door: door.text in self.neighbours, self.reach)

    async def reach(self, door: Door) -> bool:
        self.asked.append(door.text)
        if door.text in self.hangs:
            await asyncio.Event().wait()
        if door.text in self.reasons:
            raise SwarmUnreachable(self.reasons[door.text])
        if door.text in self.opens:
            self.neighbours.add(door.text)
        return door.text in self.opens


async def test_one_open_door_is_enough():
    house = House("a", "b")
    house.opens = {"b"}
    await house.doors.enter(5.0)
    assert sorted(house.asked) == ["a", "b"]


async def test_where_no_door_opens_all_are_named():
    house = House("/ip4/1.2.3.4/tcp/1/p2p/x", "/ip4/5.6.7.8/tcp/1/p2p/y")
    with pytest.raises(SwarmUnreachable, match=r"through /ip4/1.2.3.4/tcp/1/p2p/x, /ip4/5.6.7.8/tcp/1/p2p/y; nobody"):
        await house.doors.enter(5.0)


async def test_a_door_that_says_why_it_stays_shut_is_quoted():
    house = House("a", "b")
    house.reasons = {"a": "clocks differ"}
    with pytest.raises(SwarmUnreachable, match="through a, b; clocks differ"):
        await house.doors.enter(5.0)


async def test_a_door_that_never_answers_costs_no_more_than_the_deadline():
    house = House("a")
    house.hangs = {"a"}
    with pytest.raises(SwarmUnreachable):
        await house.doors.enter(0.01)
    await house.doors.close()


async def test_who_may_begin_alone_knocks_on_for_a_while_and_then_does():
    house = House("a", "b")
    entering = asyncio.create_task(house.doors.enter(5.0, 3.0))
    await settle()
    assert sorted(house.asked) == ["a", "b"] and not entering.done()
    for seconds in (LONELY_KNOCK_S, 3.0 - LONELY_KNOCK_S):
        house.clock.advance(seconds)
        await settle()
    await entering
    assert house.doors.alone and sorted(house.asked) == ["a", "a", "a", "b", "b", "b"]


async def test_a_door_that_opens_meanwhile_is_entered():
    house = House("a")
    entering = asyncio.create_task(house.doors.enter(5.0, 3.0))
    await settle()
    house.opens = {"a"}
    house.clock.advance(LONELY_KNOCK_S)
    await settle()
    await entering
    assert not house.doors.alone and house.neighbours == {"a"}


async def test_nobody_begins_alone_where_somebody_said_no():
    house = House("a", "b")
    house.reasons = {"b": "clocks differ"}
    with pytest.raises(SwarmUnreachable, match="clocks differ"):
        await house.doors.enter(5.0, 3.0)
    assert not house.doors.alone


async def test_a_neighbour_is_not_knocked_at_and_a_shut_door_not_too_often():
    house = House("a", "b")
    house.neighbours = {"a"}
    house.doors.knock()
    await settle()
    assert house.asked == ["b"]
    house.clock.advance(KNOCK_EVERY_S - 1)
    assert house.doors.knock() == []
    house.clock.advance(1)
    house.neighbours = set()
    house.doors.knock()
    await settle()
    assert house.asked == ["b", "a", "b"]


async def test_who_is_lonely_may_knock_more_often():
    house = House("a")
    house.doors.knock()
    house.clock.advance(LONELY_KNOCK_S)
    assert house.doors.knock() == []
    assert len(house.doors.knock(LONELY_KNOCK_S)) == 1
    await settle()


async def test_after_a_restart_every_door_is_tried_at_once():
    house = House("a")
    house.doors.knock()
    await settle()
    house.doors.open_again()
    house.doors.knock()
    await settle()
    assert house.asked == ["a", "a"]


async def test_closing_ends_knocks_that_hang():
    house = House("a")
    house.hangs = {"a"}
    (knock,) = house.doors.knock()
    await settle()
    await house.doors.close()
    assert knock.cancelled()


async def test_a_door_is_open_where_something_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert await Door("here", None, b"", "127.0.0.1", port).is_open(5.0)
    assert not await Door("there", None, b"", "127.0.0.1", port).is_open(5.0)
    assert not await Door("nowhere", None, b"", "nowhere.invalid", port).is_open(5.0)
