"""What a Peer says of where its Seats send, over real gRPC servers where it is measured."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from peer import flows as module
from peer.flows import Flows
from peer.onward import Onward
from peer.seat import Seat
from proto.connection import Connection
from proto.info import MAX_FLOWS
from proto.messages import Info, Neighbour
from swarm.clock import SystemClock, VirtualClock
from swarm.errors import DeadLink
from swarm.peerinfo import Flow
from tests.support.echo import EchoPeer, serving
from tests.support.seats import neighbour, seat
from tests.support.swarm import settle

US, THEM, OTHER = "a" * 32, "b" * 32, "c" * 32


def sending(to: Neighbour | None, feed: Neighbour | None = None, moving: bool = True) -> Seat:
    """A Seat with its Path; what it would tell of neighbours nobody hears."""
    made = seat()
    made.outflow.moving = moving
    made.onward = None if to is None else Onward(None, made, to)  # type: ignore[arg-type]
    made.feeding = None if feed is None else Onward(None, made, feed)  # type: ignore[arg-type]
    return made


def at(peer_id: str, address: str = "10.0.0.9:4000") -> Neighbour:
    return replace(neighbour(peer_id=peer_id), address=address)


def test_seats_are_counted_by_where_they_send():
    seats = [
        sending(at(THEM)), sending(at(THEM)), sending(at(OTHER)),
        sending(None, at(THEM)),  # the last Hop of a ring: to the client, and to the first
        sending(None), sending(None), sending(None),
        sending(at(US)), sending(at(OTHER), moving=False),
    ]  # fmt: skip
    assert Flows(US, VirtualClock()).read(seats) == (Flow(None, 4), Flow(THEM, 3), Flow(OTHER, 1))
    assert Flows(US, VirtualClock()).read([]) == ()


def test_the_busiest_ways_are_told_where_there_are_many():
    seats = [sending(at(f"{number:032x}")) for number in range(MAX_FLOWS + 10)] + [sending(at(THEM))] * 2
    told = Flows(US, VirtualClock()).read(seats)
    assert len(told) == MAX_FLOWS and told[0] == Flow(THEM, 2)


async def test_a_round_trip_is_measured_on_the_connection_that_the_chunks_take():
    async with serving(EchoPeer()) as (address, _):
        flows = Flows(US, SystemClock())
        connection = flows.connect(address)
        seats = [sending(at(THEM, address))]
        assert flows.read(seats)[0].rtt_s is None
        await flows.measure(seats)
        (flow,) = flows.read(seats)
        assert flow.rtt_s is not None and 0 < flow.rtt_s < module.ANSWER_S
        await flows.measure([])
        assert flows.read(seats)[0].rtt_s is None, "what is not used any more is forgotten"
        await connection.close()
        await flows.measure(seats)
        assert flows.read(seats)[0].rtt_s is None


async def test_a_peer_that_was_never_dialled_or_refuses_has_none():
    flows = Flows(US, SystemClock())
    seats = [sending(at(THEM, "127.0.0.1:1")), sending(at(OTHER, "127.0.0.1:2"))]
    connection = flows.connect("127.0.0.1:1")
    await flows.measure(seats)
    assert [flow.rtt_s for flow in flows.read(seats)] == [None, None]
    await connection.close()


async def test_a_connection_that_is_closed_under_a_question_ends_nothing(monkeypatch: pytest.MonkeyPatch):
    asked = asyncio.Event()

    async def hanging(self: Connection, timeout_s: float = 5.0) -> Info:
        asked.set()
        await asyncio.sleep(60)
        raise DeadLink("never")

    flows = Flows(US, SystemClock())
    connection = flows.connect("127.0.0.1:1")
    seats = [sending(at(THEM, "127.0.0.1:1"))]

    async def cancelled(timeout_s: float = 5.0) -> Info:
        await connection.close()
        raise asyncio.CancelledError  # as gRPC does

    monkeypatch.setattr(connection, "info", cancelled)
    await flows.measure(seats)
    again = flows.connect("127.0.0.1:1")
    monkeypatch.setattr(again, "info", lambda timeout_s: hanging(again))
    measuring = asyncio.create_task(flows.measure(seats))
    await asked.wait()
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    await again.close()


async def test_measuring_goes_on_after_a_mistake(monkeypatch: pytest.MonkeyPatch):
    clock = VirtualClock()
    flows = Flows(US, clock)
    turns = 0

    async def failing(seats: object) -> None:
        nonlocal turns
        turns += 1
        raise RuntimeError("a mistake")

    monkeypatch.setattr(flows, "measure", failing)
    running = asyncio.create_task(flows.run([]))
    for _ in range(3):
        await settle()
        clock.advance(module.EVERY_S)
    await settle()
    assert turns == 4 and not running.done()
    running.cancel()
