"""Links to a real gRPC server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from proto import frames
from proto.connection import Connection
from proto.limits import Limits
from proto.link import Link
from proto.messages import PROTOCOL, Advance, Chunk, Close, Done, Entry, Hello, Opened, Token
from proto.options import CHANNEL_OPTIONS, SERVER_OPTIONS
from swarm.errors import BadRequest, DeadLink, Draining, Fault, Internal, NoSeat, Timeout
from tests.support.echo import HELLO, PEER_ID, A, B, C, Cable, EchoPeer, Talk, opening, serving, step

LIMITS = Limits()
PATIENCE_S = 20.0  # for what must come; long, so that a busy machine fails no test


async def dial(address: str, limits: Limits = LIMITS) -> tuple[Connection, Link]:
    connection = Connection(address)
    return connection, await connection.link(HELLO, limits, timeout_s=PATIENCE_S)


async def test_a_link_knows_whom_it_reached_and_carries_entries_both_ways():
    peer = EchoPeer()
    async with serving(peer) as (address, _):
        connection, link = await dial(address)
        assert link.peer_id == PEER_ID and link.alive
        talk = Talk(link, A)
        talk.send(0, opening())
        assert await talk.receive(PATIENCE_S) == Entry(A, 0, Opened(0, 30.0, 256))
        talk.send(0, step(0))
        assert await talk.receive(PATIENCE_S) == Entry(A, 0, step(0))
        await connection.close()


async def test_many_sessions_share_a_link_and_each_hears_only_its_own_in_order():
    async with serving(EchoPeer()) as (address, _):
        connection, link = await dial(address)

        async def talk(session: bytes) -> list[Entry]:
            talk = Talk(link, session)
            for number in range(20):
                talk.send(0, step(number, token_id=session[0]))
            return [await talk.receive(PATIENCE_S) for _ in range(20)]

        sessions = [bytes([number]) * 16 for number in range(1, 31)]
        heard = await asyncio.gather(*(talk(session) for session in sessions))
        for session, entries in zip(sessions, heard, strict=True):
            assert entries == [Entry(session, 0, step(number, token_id=session[0])) for number in range(20)]
        await connection.close()


async def test_a_server_that_stops_wakes_every_receiver_at_once_with_its_address():
    async with serving(EchoPeer(lambda entry: [])) as (address, server):
        connection, link = await dial(address)
        waiting = [asyncio.create_task(Talk(link, session).receive(600)) for session in (A, B, C)]
        await asyncio.sleep(0)
        await server.stop(None)
        for outcome in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE_S):
            assert isinstance(outcome, DeadLink) and address in str(outcome) and "\n" not in str(outcome)
        assert not link.alive
        late = Talk(link, bytes(16))
        with pytest.raises(DeadLink, match=address):
            late.send(0, Advance())
        with pytest.raises(DeadLink, match=address):
            await late.receive(600)
        await connection.close()


async def test_a_wire_that_is_cut_wakes_every_receiver():
    async with serving(EchoPeer(lambda entry: [])) as (address, _), Cable(address) as cable:
        connection, link = await dial(cable.address)
        waiting = asyncio.create_task(Talk(link, A).receive(600))
        await asyncio.sleep(0)
        cable.cut()
        with pytest.raises(DeadLink, match=f"{cable.address}: the connection broke"):
            await asyncio.wait_for(waiting, PATIENCE_S)
        await connection.close()


def changed(options: Sequence[tuple[str, int]], **values: int) -> list[tuple[str, int]]:
    """The same settings but for some, named by their last part."""
    return [(name, values.get(name.rpartition(".")[2], value)) for name, value in options]


async def test_a_quiet_link_is_not_taken_for_a_ping_flood():
    # Pings twice as often as usual, which is as often as gRPC can, for a server that allows twice as many.
    hurried = changed(SERVER_OPTIONS, min_ping_interval_without_data_ms=500)
    async with serving(EchoPeer(), options=hurried) as (address, _):
        connection = Connection(address, changed(CHANNEL_OPTIONS, keepalive_time_ms=1000))
        link = await connection.link(HELLO, LIMITS, timeout_s=PATIENCE_S)
        talk = Talk(link, A)
        with pytest.raises(TimeoutError):
            await talk.receive(4.5)  # four pings; a server that thinks them too many hangs up at the third
        assert link.alive
        await connection.close()


async def test_a_wire_that_goes_dumb_is_noticed_by_its_pings():
    async with serving(EchoPeer()) as (address, _), Cable(address) as cable:
        hasty = changed(CHANNEL_OPTIONS, keepalive_time_ms=1000, keepalive_timeout_ms=200, ping_timeout_ms=200)
        connection = Connection(cable.address, hasty)
        link = await connection.link(HELLO, LIMITS, timeout_s=PATIENCE_S)
        cable.freeze()
        with pytest.raises(DeadLink, match=f"{cable.address}: it stopped answering pings"):
            await Talk(link, A).receive(PATIENCE_S)
        await connection.close()


async def test_a_fault_of_a_session_is_raised_there_and_nowhere_else():
    def answer(entry: Entry) -> list[Entry]:
        return [Entry(A, entry.epoch, NoSeat("no seat here\nsecond line"))] if entry.session == A else [entry]

    async with serving(EchoPeer(answer)) as (address, _):
        connection, link = await dial(address)
        faulted, other = Talk(link, A), Talk(link, B)
        faulted.send(0, step(0))
        other.send(0, step(0))
        with pytest.raises(NoSeat, match=r"^no seat here second line$"):
            await faulted.receive(PATIENCE_S)
        assert (await other.receive(PATIENCE_S)).body == step(0)
        assert link.alive
        await connection.close()


async def test_a_fault_of_the_whole_link_reaches_everybody_and_ends_it():
    async with serving(EchoPeer(lambda entry: [Entry(b"", 0, Draining("leaving now"))])) as (address, _):
        connection, link = await dial(address)
        one, two = Talk(link, A), Talk(link, B)
        one.send(0, step(0))
        for talk in (one, two):
            with pytest.raises(Draining, match="leaving now"):
                await talk.receive(PATIENCE_S)
        assert not link.alive
        await connection.close()


async def test_what_comes_for_nobody_is_dropped_and_its_session_may_be_listened_to_again():
    async with serving(EchoPeer()) as (address, _):
        connection, link = await dial(address)
        first, other = Talk(link, A), Talk(link, B)
        first.send(0, step(0))
        first.close()
        other.send(0, step(1))
        assert (await other.receive(PATIENCE_S)).body == step(1)  # so the answer to the first has come, too
        again = Talk(link, A)
        again.send(0, step(2))
        assert (await again.receive(PATIENCE_S)).body == step(2)
        assert link.listeners == 2
        await connection.close()


async def test_a_session_has_one_ear_which_may_be_attached_again():
    async with serving(EchoPeer()) as (address, _):
        connection, link = await dial(address)
        talk = Talk(link, A)
        link.attach(A, talk)
        with pytest.raises(AssertionError, match="somebody else listens"):
            Talk(link, A)
        assert link.listeners == 1
        await connection.close()


async def test_an_ear_hears_once_that_the_link_is_over_and_each_has_a_fault_of_its_own():
    """They are raised, in several tasks: one traceback must not grow on another."""

    class Tired:
        def __init__(self):
            self.faults: list[Fault] = []

        def hear(self, entry: Entry) -> None:
            raise AssertionError("nothing comes")

        def fail(self, fault: Fault) -> None:
            self.faults.append(fault)

    async with serving(EchoPeer()) as (address, _):
        connection, link = await dial(address)
        early, other, late = Tired(), Tired(), Tired()
        link.attach(A, early)
        link.attach(B, other)
        await connection.close()
        await link.close()
        link.attach(C, late)
        assert link.listeners == 0
        (one,), (two,), (three,) = early.faults, other.faults, late.faults
        assert {str(fault) for fault in (one, two, three)} == {f"{address}: the link was closed on this side"}
        assert one is not two and two is not three


async def test_an_entry_that_breaks_a_limit_ends_only_its_session():
    limits = Limits(vocab_size=100)

    def answer(entry: Entry) -> list[Entry]:
        return [Entry(entry.session, 0, Token(0, 1, 100 if entry.session == A else 99))]

    async with serving(EchoPeer(answer)) as (address, _):
        connection, link = await dial(address, limits)
        wrong, right = Talk(link, A), Talk(link, B)
        wrong.send(0, step(0))
        right.send(0, step(0))
        with pytest.raises(BadRequest, match=f"{address} broke the protocol: token id 100 is outside"):
            await wrong.receive(PATIENCE_S)
        assert link.listeners == 1
        assert (await right.receive(PATIENCE_S)).body == Token(0, 1, 99)
        await connection.close()


async def test_a_frame_that_breaks_a_limit_ends_the_link():
    async with serving(EchoPeer()) as (address, _):
        connection, link = await dial(address, Limits(max_frame_bytes=200))
        talk = Talk(link, A)
        talk.send(0, Chunk(0, 0, 300, step(0).want, token_ids=(5,) * 300))
        with pytest.raises(BadRequest, match=r"broke the protocol: frame has [0-9]+ bytes, at most 200"):
            await talk.receive(PATIENCE_S)
        await connection.close()


async def test_another_protocol_is_refused_with_both_versions():
    async with serving(EchoPeer(hello=Hello("9.9", PEER_ID, protocol=9))) as (address, _):
        connection = Connection(address)
        with pytest.raises(
            BadRequest, match=rf"protocol 9 \(version 9.9\), this side speaks {PROTOCOL} \(version 0.0-test\)"
        ):
            await connection.link(HELLO, LIMITS, timeout_s=PATIENCE_S)
        await connection.close()


async def test_a_peer_that_says_something_else_first_is_refused():
    class Rude(EchoPeer):
        async def Link(self, requests: AsyncIterator[bytes], context: object):
            yield frames.encode([Entry(A, 0, Done(0, 0)), Entry(b"", 0, Draining("go away"))])

    async with serving(Rude()) as (address, _):
        connection = Connection(address)
        with pytest.raises(Draining, match="go away"):
            await connection.link(HELLO, LIMITS, timeout_s=PATIENCE_S)
        await connection.close()


async def test_a_peer_that_never_greets_is_a_timeout_and_leaves_no_task_behind():
    class Mute(EchoPeer):
        async def Link(self, requests: AsyncIterator[bytes], context: object):
            await asyncio.get_running_loop().create_future()
            yield

    async with serving(Mute()) as (address, _):
        connection = Connection(address)
        with pytest.raises(Timeout, match=f"{address} did not greet within 0.05 s"):
            await connection.link(HELLO, LIMITS, timeout_s=0.05)
        await connection.close()
        assert not [task for task in asyncio.all_tasks() if "coro=<Link." in repr(task)]


async def test_our_own_nonsense_breaks_the_link_instead_of_hanging_it():
    async with serving(EchoPeer()) as (address, _):
        connection, link = await dial(address)
        talk = Talk(link, A)
        talk.send(0, Done(-1, 0))
        with pytest.raises(Internal, match=f"{address}: an entry cannot be sent"):
            await talk.receive(PATIENCE_S)
        await connection.close()


async def test_closing_a_link_writes_what_was_queued_and_the_peer_sees_the_end():
    heard: list[Entry] = []

    def answer(entry: Entry) -> list[Entry]:
        heard.append(entry)
        return []

    peer = EchoPeer(answer)
    async with serving(peer) as (address, _):
        connection, link = await dial(address)
        waiting = asyncio.create_task(Talk(link, B).receive(600))
        await asyncio.sleep(0)
        Talk(link, A).send(0, Close())
        await link.close()
        with pytest.raises(DeadLink, match="closed on this side"):
            await waiting
        await asyncio.wait_for(peer.ended.get(), PATIENCE_S)
        assert heard == [Entry(A, 0, Close())]
        await link.close()  # twice is once
        await connection.close()
