from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from structlog.testing import capture_logs

from peer.log import VanishedClients
from proto import frames
from proto.limits import Limits
from proto.messages import Advance, Chunk, Close, Done, Entry, Hello, Opened, Path, Token, Want
from proto.options import CHANNEL_OPTIONS
from proto.outbox import Outbox
from swarm.errors import BadNumbers, BadRequest, Fault, NoSeat, Refused, Timeout
from swarm.span import Span
from tests.support.compute import FakeRunner
from tests.support.echo import Talk
from tests.support.hosts import HELLO, PEER_ID, Host, hosting
from tests.support.seats import hidden, opening, terms, tokens

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
SOON = 10.0


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
async def host(runner: FakeRunner) -> AsyncIterator[Host]:
    async with hosting(runner, terms(), max_links=3) as host:
        yield host


async def raw_link(host: Host, *frames_out: bytes) -> list[object]:
    """Writes bytes as Frames on a Link of its own, ends its side, and returns the bodies of all that came back."""
    async with grpc.aio.insecure_channel(host.address) as channel:
        call = channel.stream_stream("/shoal.v1.Peer/Link")(iter(frames_out), timeout=SOON)
        return [entry.body async for data in call for entry in frames.decode(data, Limits())]  # type: ignore[union-attr]


def frame(*entries: Entry) -> bytes:
    return frames.encode(entries).SerializeToString()


async def test_a_session_from_open_to_close(host: Host):
    link = await host.link()
    assert link.peer_id == PEER_ID
    talk = Talk(link, A)
    talk.send(0, opening())
    assert await talk.next_body() == Opened(0, 60.0, 16)
    talk.send(0, Path(0, None, 0))
    talk.send(0, tokens(0, 0, 2, Want.NOTHING))
    assert await talk.next_body() == Done(0, 2)
    talk.send(0, tokens(1, 2))
    assert await talk.next_body() == Token(1, 3, 3)
    talk.send(1, Advance())
    assert await talk.receive() == Entry(A, 1, Opened(3, 60.0, 16, kept_from=3))
    talk.send(1, Close())
    talk.send(1, tokens(2, 3))
    with pytest.raises(NoSeat):
        await talk.receive()
    assert (host.pool.used, host.pool.owed) == (0, 0)


async def test_what_is_computed_when_the_epoch_is_raised_does_not_come_out(host: Host, runner: FakeRunner):
    talk = Talk(await host.link(), A)
    for body in (opening(), Path(0, None, 0)):
        talk.send(0, body)
    await talk.receive()
    runner.hold()
    talk.send(0, tokens(0, 0))
    await runner.started()
    talk.send(1, Advance())
    assert await talk.receive() == Entry(A, 1, Opened(0, 60.0, 16))
    runner.release()
    talk.send(1, Path(0, None, 0))
    talk.send(1, tokens(5, 0))
    assert await talk.receive() == Entry(A, 1, Token(5, 1, 1))


async def test_hidden_states_go_in_and_come_out(host: Host):
    talk = Talk(await host.link(), A)
    talk.send(0, opening(span=Span(2, 8), sampling=None))
    await talk.receive()
    talk.send(0, Path(0, None, 0))
    chunk = hidden(0, 0, 3)
    talk.send(0, chunk)
    assert await talk.outcome() == chunk


async def test_sessions_share_a_link_and_a_refused_one_disturbs_nobody(host: Host):
    link = await host.link()
    good, bad = Talk(link, A), Talk(link, B)
    bad.send(0, opening(profile="f32"))
    good.send(0, opening())
    with pytest.raises(Fault, match="this peer serves 'c8'"):
        await bad.receive()
    assert isinstance(await good.next_body(), Opened)


async def test_a_closed_link_frees_its_seats(host: Host):
    link = await host.link()
    for session in (A, B):
        talk = Talk(link, session)
        talk.send(0, opening())
        await talk.receive()
        talk.send(0, Path(0, None, 0))
    assert host.pool.owed == 16
    await link.close()
    await host.settled()
    assert (host.pool.used, host.pool.owed) == (0, 0)


async def test_a_client_that_vanishes_frees_its_seats_also_in_the_middle_of_a_step(host: Host, runner: FakeRunner):
    talk = Talk(await host.link(), A)
    talk.send(0, opening())
    await talk.receive()
    talk.send(0, Path(0, None, 0))
    runner.hold()
    talk.send(0, tokens(0, 0))
    await runner.started()
    with capture_logs() as said:
        await host.connection.close()
        await host.settled()
        assert (host.pool.used, host.pool.owed) == (0, 0)
        runner.release()
    assert [entry for entry in said if entry["log_level"] == "error"] == []


async def test_a_chunk_beyond_the_limits_is_told_to_its_session_only(host: Host):
    link = await host.link()
    good, bad = Talk(link, A), Talk(link, B)
    for talk in (good, bad):
        talk.send(0, opening(max_tokens=64))
        await talk.receive()
        talk.send(0, Path(0, None, 0))
    bad.send(0, tokens(0, 0, 17))
    with pytest.raises(BadRequest, match="17"):
        await bad.receive()
    good.send(0, tokens(0, 0, 16))
    assert isinstance(await good.outcome(), Token)


async def test_a_token_outside_the_vocabulary_is_a_bad_request(host: Host):
    talk = Talk(await host.link(), A)
    talk.send(0, opening())
    await talk.receive()
    talk.send(0, Path(0, None, 0))
    talk.send(0, tokens(0, 0, first_id=500))
    with pytest.raises(BadRequest, match="vocabulary"):
        await talk.receive()


async def test_a_step_that_fails_closes_its_seat_and_no_other(host: Host, runner: FakeRunner):
    link = await host.link()
    good, bad = Talk(link, A), Talk(link, B)
    runner.faults[B] = BadNumbers("NaN")
    for talk in (good, bad):
        talk.send(0, opening())
        await talk.receive()
        talk.send(0, Path(0, None, 0))
        talk.send(0, tokens(0, 0))
    with pytest.raises(BadNumbers):
        await bad.receive()
    assert isinstance(await good.outcome(), Token)
    assert [seat.session for seat in host.desk.seats] == [A]


async def test_a_stranger_cannot_touch_a_seat(host: Host):
    mine = Talk(await host.link(), A)
    mine.send(0, opening())
    await mine.receive()
    mine.send(0, Path(0, None, 0))
    theirs = Talk(await host.link(), A)
    theirs.send(5, opening())
    with pytest.raises(Refused, match="in use on another link"):
        await theirs.receive()
    mine.send(0, tokens(0, 0))
    assert isinstance(await mine.outcome(), Token)


async def test_only_so_many_links_are_taken(host: Host):
    links = [await host.link() for _ in range(3)]
    with pytest.raises(Refused, match="all 3 links of this peer are taken"):
        await host.link()
    await links[0].close()
    await host.settled(2)
    assert (await host.link()).alive


@pytest.mark.parametrize(
    "data", [b"\xff" * 100, b"", os.urandom(1000), b"\x0a\xff\xff\xff\xff\x0f", frame(Entry(A, 0, Close()))]
)
async def test_garbage_instead_of_a_hello_ends_only_its_own_link(host: Host, data: bytes):
    good = Talk(await host.link(), A)
    (fault,) = await raw_link(host, data)
    assert isinstance(fault, BadRequest)
    await host.settled(1)
    good.send(0, opening())
    assert isinstance(await good.next_body(), Opened)


async def test_garbage_after_the_hello_ends_the_link_and_frees_its_seats(host: Host):
    hello = frame(Entry(b"", 0, HELLO), Entry(A, 0, opening()))
    bodies = await raw_link(host, hello, b"\xff" * 50)
    assert [type(body) for body in bodies] == [Hello, Opened, BadRequest]
    await host.settled()
    assert (host.pool.used, host.pool.owed) == (0, 0)


async def test_a_second_hello_ends_the_link(host: Host):
    hello = frame(Entry(b"", 0, HELLO))
    bodies = await raw_link(host, hello, hello)
    assert [type(body) for body in bodies] == [Hello, BadRequest]


async def test_another_protocol_is_told_apart(host: Host):
    bodies = await raw_link(host, frame(Entry(b"", 0, Hello("9.9", protocol=9))))
    assert isinstance(bodies[0], Hello)
    assert isinstance(bodies[1], BadRequest) and "protocol 9 (9.9)" in str(bodies[1])


async def test_a_link_that_says_nothing_is_ended(runner: FakeRunner):
    async with hosting(runner, terms(), hello_timeout_s=0.05) as host:
        async with grpc.aio.insecure_channel(host.address) as channel:
            call = channel.stream_stream("/shoal.v1.Peer/Link")(timeout=SOON)
            data = await call.read()
            (entry,) = frames.decode(data, Limits())
            assert isinstance(entry, Entry) and isinstance(entry.body, Timeout)
        await host.settled()


async def test_bytes_that_are_no_grpc_are_shrugged_off(host: Host):
    def scribble() -> None:
        name, port = host.address.split(":")
        with socket.create_connection((name, int(port)), timeout=SOON) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n" + os.urandom(4096))
            with contextlib.suppress(ConnectionError):
                while connection.recv(4096):
                    pass

    await asyncio.to_thread(scribble)
    assert (await host.link()).alive


async def test_a_session_that_does_not_read_loses_its_seat_and_nobody_else_does(runner: FakeRunner):
    wide = 16384
    async with (
        hosting(runner, terms(), hidden_size=wide, outbox=lambda: Outbox(max_bytes_per_session=4 << 20)) as host,
        grpc.aio.insecure_channel(host.address, options=CHANNEL_OPTIONS) as channel,
    ):
        deaf = channel.stream_stream("/shoal.v1.Peer/Link")(timeout=60)
        request = opening(span=Span(2, 8), sampling=None)
        await deaf.write(
            frame(Entry(b"", 0, HELLO), Entry(A, 0, request), Entry(B, 0, request), Entry(A, 0, Path(0, None, 0)))
        )
        step = frame(Entry(A, 0, hidden(0, 0, 16, cols=wide)))  # 1 MiB in, 1 MiB out, every time it is repeated
        async with asyncio.timeout(30):
            while host.desk.seats.get(A) is not None or not len(host.desk.seats):
                await deaf.write(step)
        assert [seat.session for seat in host.desk.seats] == [B]
        other = Talk(await host.link(), C)
        other.send(0, request)
        await other.receive()
        other.send(0, Path(0, None, 0))
        other.send(0, hidden(0, 0, 1, cols=wide))
        assert isinstance(await other.outcome(), Chunk)


async def test_a_client_that_never_reads_and_then_cancels_is_no_error(
    runner: FakeRunner, caplog: pytest.LogCaptureFixture
):
    wide = 16384
    calls, quiet = logging.getLogger("grpc._cython.cygrpc"), VanishedClients()
    calls.addFilter(quiet)
    caplog.set_level(logging.DEBUG, "peer.log")
    try:
        async with (
            hosting(runner, terms(), hidden_size=wide, outbox=lambda: Outbox(max_bytes_per_session=4 << 20)) as host,
            grpc.aio.insecure_channel(host.address, options=CHANNEL_OPTIONS) as channel,
        ):
            deaf = channel.stream_stream("/shoal.v1.Peer/Link")(timeout=60)
            request = opening(span=Span(2, 8), sampling=None)
            await deaf.write(
                frame(Entry(b"", 0, HELLO), Entry(A, 0, request), Entry(B, 0, request), Entry(A, 0, Path(0, None, 0)))
            )
            step = frame(Entry(A, 0, hidden(0, 0, 16, cols=wide)))
            async with asyncio.timeout(30):
                while host.desk.seats.get(A) is not None or not len(host.desk.seats):
                    await deaf.write(step)
            deaf.cancel()
            await host.settled()
    finally:  # the server has stopped: what gRPC had to say about the call, if it was sending, is said
        calls.removeFilter(quiet)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
