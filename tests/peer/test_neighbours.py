"""A Peer's own Links, to real gRPC servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack

import pytest

from peer import neighbours as module
from peer.neighbours import FAILED_S, IDLE_S, TRUST_EVERY_S, Neighbours
from proto.connection import Connection
from proto.limits import Limits
from proto.messages import Done, Entry, Hello, Neighbour
from swarm.clock import VirtualClock
from swarm.errors import BadRequest, DeadLink, Fault, NoSeat, Overflow, WrongModel
from tests.support.echo import A, B, C, EchoPeer, serving

US, THEM, OTHER = "a" * 32, "b" * 32, "c" * 32


class Listening:
    """An ear that remembers."""

    def __init__(self):
        self._heard: asyncio.Queue[Entry | Fault] = asyncio.Queue()

    def hear(self, entry: Entry) -> None:
        self._heard.put_nowait(entry)

    def fail(self, fault: Fault) -> None:
        self._heard.put_nowait(fault)

    async def next(self) -> Entry | Fault:
        async with asyncio.timeout(20):
            return await self._heard.get()

    def silent(self) -> bool:
        return self._heard.empty()


class Town:
    """Our Neighbours, servers for them to reach, and what was asked and dialled."""

    def __init__(self, stack: AsyncExitStack):
        self._stack = stack
        self.clock = VirtualClock()
        self.known: set[str] = {THEM, OTHER}
        self.asked: list[str] = []
        self.dialled: list[str] = []
        self.gate = asyncio.Event()  # before anybody is known
        self.gate.set()
        self.neighbours = Neighbours(Hello("0.0-test", US), Limits(), self._knows, self.clock, connect=self._connect)

    async def _knows(self, to: Neighbour) -> bool:
        self.asked.append(to.peer_id)
        await self.gate.wait()
        return to.peer_id in self.known

    def _connect(self, address: str) -> Connection:
        self.dialled.append(address)
        return Connection(address)

    async def peer(self, peer_id: str = THEM, answer: Callable[[Entry], Iterable[Entry]] = lambda e: [e]):
        """A server; its address, itself, and how to stop it."""
        peer = EchoPeer(answer, hello=Hello("0.0-test", peer_id))
        address, server = await self._stack.enter_async_context(serving(peer))
        return address, peer, server

    def send(self, address: str, session: bytes, number: int, ear: Listening, peer_id: str = THEM) -> None:
        self.neighbours.send(Neighbour(peer_id, address, session, 16), Entry(session, 0, Done(number, 0)), ear)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        town = Town(stack)
        stack.push_async_callback(town.neighbours.close)
        yield town


async def test_one_link_carries_the_entries_of_all_sessions_also_those_from_before_it_was_up(town: Town):
    address, _, _ = await town.peer()
    town.gate.clear()
    ears = {session: Listening() for session in (A, B, C)}
    for number in range(3):
        for session, ear in ears.items():
            town.send(address, session, number, ear)
    assert len(town.neighbours) == 0
    town.gate.set()
    for session, ear in ears.items():
        for number in range(3):
            assert await ear.next() == Entry(session, 0, Done(number, 0))
        town.send(address, session, 3, ear)
        assert await ear.next() == Entry(session, 0, Done(3, 0))
    assert (town.dialled, town.asked, len(town.neighbours)) == ([address], [THEM], 1)


async def test_every_peer_has_a_link_of_its_own(town: Town):
    one, two = Listening(), Listening()
    for peer_id, session, ear in ((THEM, A, one), (OTHER, B, two)):
        address, _, _ = await town.peer(peer_id)
        town.send(address, session, 0, ear, peer_id)
        assert isinstance(await ear.next(), Entry)
    assert len(town.neighbours) == 2


async def test_a_peer_that_the_swarm_does_not_announce_is_not_dialled(town: Town):
    address, _, _ = await town.peer("d" * 32)
    ear = Listening()
    town.send(address, A, 0, ear, "d" * 32)
    fault = await ear.next()
    assert isinstance(fault, BadRequest) and "announces no peer dddddddd" in str(fault)
    assert town.dialled == []


async def test_another_peer_at_the_address_is_not_spoken_to(town: Town):
    heard: list[Entry] = []
    address, peer, _ = await town.peer(OTHER, lambda entry: heard.append(entry) or [])
    ear = Listening()
    town.send(address, A, 0, ear)
    fault = await ear.next()
    assert isinstance(fault, WrongModel) and "is peer cccccccc, bbbbbbbb was expected" in str(fault)
    await asyncio.wait_for(peer.ended.get(), 20)
    assert heard == []


async def test_that_a_peer_cannot_be_reached_every_ear_hears_once_and_it_is_remembered(town: Town):
    nowhere = "127.0.0.1:1"
    one, two, late = Listening(), Listening(), Listening()
    for number in range(3):
        town.send(nowhere, A, number, one)
        town.send(nowhere, B, number, two)
    faults = [await one.next(), await two.next()]
    assert all(isinstance(fault, DeadLink) and nowhere in str(fault) for fault in faults)
    assert one.silent() and two.silent()
    assert faults[0] is not faults[1], "they are raised in several places"
    town.clock.advance(FAILED_S - 0.1)
    town.send(nowhere, C, 0, late)
    assert not late.silent(), "known without dialling"
    assert str(await late.next()) == str(faults[0])
    assert len(town.dialled) == 1
    town.clock.advance(0.1)
    town.send(nowhere, C, 0, late)
    assert isinstance(await late.next(), DeadLink)
    assert len(town.dialled) == 2


async def test_where_the_swarm_is_slow_to_say_a_client_is_taken_at_its_word_now_and_then(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LOOK_UP_TIMEOUT_S", 0.05)
    town.gate.clear()  # the swarm is slow
    for port, expected in ((1, DeadLink), (2, BadRequest), (3, BadRequest)):
        ear = Listening()
        town.send(f"127.0.0.1:{port}", A, port, ear)
        assert isinstance(await ear.next(), expected)
    assert len(town.dialled) == 1
    town.clock.advance(TRUST_EVERY_S)
    ear = Listening()
    town.send("127.0.0.1:4", A, 4, ear)
    assert isinstance(await ear.next(), DeadLink) and len(town.dialled) == 2


async def test_a_mistake_while_dialling_leaves_nobody_waiting(town: Town):
    def broken(address: str) -> Connection:
        raise RuntimeError("ours")

    town.neighbours._connect = broken
    ear = Listening()
    town.send("127.0.0.1:1", A, 0, ear)
    fault = await ear.next()
    assert isinstance(fault, DeadLink) and "RuntimeError" in str(fault)


async def test_a_link_that_breaks_is_heard_by_all_on_it_and_dialled_anew_when_wanted(town: Town):
    address, _, server = await town.peer()
    one, two = Listening(), Listening()
    for session, ear in ((A, one), (B, two)):
        town.send(address, session, 0, ear)
        await ear.next()
    await server.stop(None)
    for ear in (one, two):
        assert isinstance(await ear.next(), DeadLink)
    assert len(town.neighbours) == 0
    town.send(address, A, 1, one)
    assert isinstance(await one.next(), DeadLink)
    assert len(town.dialled) == 2


async def test_a_fault_of_one_seat_is_for_its_ear_alone(town: Town):
    address, _, _ = await town.peer(answer=lambda e: [Entry(e.session, 0, NoSeat("gone")) if e.session == A else e])
    one, two = Listening(), Listening()
    town.send(address, A, 0, one)
    town.send(address, B, 0, two)
    heard = await one.next()
    assert isinstance(heard, Entry) and isinstance(heard.body, NoSeat)
    assert isinstance(await two.next(), Entry)
    assert len(town.neighbours) == 1


async def test_who_is_forgotten_hears_nothing_more_and_what_it_said_is_not_sent_any_more(town: Town):
    heard: list[bytes] = []

    def answer(entry: Entry) -> list[Entry]:
        heard.append(entry.session)
        return [entry]

    address, _, _ = await town.peer(answer=answer)
    one, two = Listening(), Listening()
    town.gate.clear()
    town.send(address, A, 0, one)
    town.send(address, B, 0, two)
    town.neighbours.forget(Neighbour(THEM, address, A, 16))
    town.gate.set()
    await two.next()
    assert heard == [B] and one.silent()
    town.neighbours.forget(Neighbour(THEM, address, B, 16))
    town.send(address, C, 0, one)
    await one.next()
    assert two.silent()
    town.neighbours.forget(Neighbour(OTHER, address, C, 16))  # never sent to


async def test_a_seat_may_get_another_ear_once_it_is_forgotten(town: Town):
    address, _, _ = await town.peer()
    one, two = Listening(), Listening()
    town.send(address, A, 0, one)
    await one.next()
    town.neighbours.forget(Neighbour(THEM, address, A, 16))
    town.send(address, A, 1, two)
    assert await two.next() == Entry(A, 0, Done(1, 0))
    assert one.silent()


async def test_the_sweep_closes_what_nobody_uses_and_nothing_else(town: Town):
    address, peer, _ = await town.peer()
    used, _, _ = await town.peer(OTHER)
    one, two = Listening(), Listening()
    town.send(address, A, 0, one)
    town.send(used, B, 0, two, OTHER)
    await one.next()
    await two.next()
    town.neighbours.forget(Neighbour(THEM, address, A, 16))
    town.clock.advance(IDLE_S - 1)
    town.neighbours.sweep()
    assert len(town.neighbours) == 2
    town.clock.advance(1)
    town.neighbours.sweep()
    assert len(town.neighbours) == 1, "somebody listens on the other, however long"
    await asyncio.wait_for(peer.ended.get(), 20)
    assert one.silent() and two.silent()


async def test_only_so_much_waits_while_a_peer_is_dialled(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    address, _, _ = await town.peer()
    town.gate.clear()
    one, two = Listening(), Listening()
    town.send(address, A, 0, one)
    town.send(address, A, 1, one)
    town.send(address, B, 0, two)
    assert isinstance(await two.next(), Overflow)
    town.gate.set()
    assert [await one.next() for _ in range(2)] == [Entry(A, 0, Done(number, 0)) for number in range(2)]


async def test_there_are_only_so_many_neighbours_but_one_that_failed_makes_room(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_ROADS", 1)
    ear = Listening()
    town.send("127.0.0.1:1", A, 0, ear)
    await ear.next()
    address, _, _ = await town.peer(OTHER)
    town.send(address, B, 0, ear, OTHER)
    assert isinstance(await ear.next(), Overflow)
    town.clock.advance(FAILED_S)
    town.send(address, B, 0, ear, OTHER)
    assert isinstance(await ear.next(), Entry)


async def test_closing_ends_links_and_dialling(town: Town):
    address, peer, _ = await town.peer()
    ear = Listening()
    town.send(address, A, 0, ear)
    await ear.next()
    town.gate.clear()
    town.send("127.0.0.1:1", B, 0, Listening(), OTHER)
    await town.neighbours.close()
    await asyncio.wait_for(peer.ended.get(), 20)
    assert len(town.neighbours) == 0
    assert town.dialled == [address]
