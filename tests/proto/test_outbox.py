from __future__ import annotations

import asyncio

import pytest

from proto import frames
from proto.limits import Limits
from proto.messages import (
    Advance,
    Body,
    Chunk,
    Close,
    Done,
    Entry,
    Fork,
    Hello,
    Hidden,
    Kept,
    Neighbour,
    Open,
    Opened,
    Path,
    Timing,
    Token,
    Trouble,
    Want,
    WireDType,
)
from proto.outbox import CONTROL_RESERVE, DECODE_BYTES, MAX_FRAME_ENTRIES, Outbox, entry_bytes
from swarm.errors import NoSeat, Overflow, Refused
from swarm.sampling import SamplingParams
from swarm.span import Span

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))
MOST = 2**32 - 1
TIMINGS = (Timing(MOST, 4000.0, 4000.0),) * 70
SAMPLING = SamplingParams(0.1, 1 << 20, 0.1, 0.1, 0.1, 0.1, 0.1, 2**64 - 1, 64)
NEIGHBOUR = Neighbour("f" * 32, "h" * 255 + ":65535", A, MOST)


def decode_entry(session: bytes, step: int) -> Entry:
    return Entry(session, 0, Done(step, 0))


def prefill_entry(session: bytes, step: int, size: int = 100_000) -> Entry:
    return Entry(session, 0, Chunk(step, 0, 1, Want.HIDDEN, hidden=Hidden(WireDType.F32, 1, size // 4, bytes(size))))


async def drain(outbox: Outbox) -> list[list[Entry]]:
    """Closes ``outbox`` and gives what every remaining Frame holds."""
    outbox.close()
    drained: list[list[Entry]] = []
    async for frame in outbox.frames():
        items = frames.decode(frame, Limits())
        assert items and all(isinstance(item, Entry) for item in items)
        drained.append([item for item in items if isinstance(item, Entry)])
    return drained


def steps(frame: list[Entry]) -> list[tuple[bytes, int]]:
    return [(entry.session, entry.body.step) for entry in frame if isinstance(entry.body, Done | Chunk)]


async def test_everything_ready_goes_into_one_frame():
    outbox = Outbox()
    for step in range(3):
        for session in (A, B, C):
            outbox.put(decode_entry(session, step))
    (frame,) = await drain(outbox)
    assert sorted(steps(frame)) == [(session, step) for session in (A, B, C) for step in range(3)]


async def test_decode_goes_before_prefill_but_never_past_its_own_session():
    outbox = Outbox()
    outbox.put(prefill_entry(A, 0))
    outbox.put(decode_entry(A, 1))
    outbox.put(prefill_entry(B, 0))
    outbox.put(decode_entry(C, 0))
    first, second = await drain(outbox)
    assert steps(first) == [(C, 0), (A, 0), (B, 0)]
    assert steps(second) == [(A, 1)]


async def test_a_prefill_entry_larger_than_a_frame_travels_alone_and_delays_no_decode():
    outbox = Outbox(max_frame_bytes=DECODE_BYTES)
    outbox.put(prefill_entry(A, 0))
    outbox.put(decode_entry(B, 0))
    assert [steps(frame) for frame in await drain(outbox)] == [[(B, 0)], [(A, 0)]]


async def test_steady_decoding_does_not_starve_a_prefill():
    outbox = Outbox(max_frame_bytes=DECODE_BYTES)
    outbox.put(prefill_entry(A, 0))
    reading = outbox.frames()
    sent: list[tuple[bytes, int]] = []
    for step in range(3):
        outbox.put(decode_entry(B, step))
        sent += steps([item for item in frames.decode(await anext(reading), Limits()) if isinstance(item, Entry)])
    assert sent[:2] == [(B, 0), (A, 0)]


async def test_prefills_of_several_sessions_take_turns():
    outbox = Outbox(max_frame_bytes=100_000)
    for step in range(2):
        outbox.put(prefill_entry(A, step))
    for step in range(2):
        outbox.put(prefill_entry(B, step))
    assert [steps(frame) for frame in await drain(outbox)] == [[(A, 0)], [(B, 0)], [(A, 1)], [(B, 1)]]


async def test_a_long_prompt_does_not_fill_the_frame_that_its_neighbour_could_use():
    outbox = Outbox(max_frame_bytes=250_000)
    for step in range(3):
        outbox.put(prefill_entry(A, step))
    outbox.put(prefill_entry(B, 0))
    assert [steps(frame) for frame in await drain(outbox)] == [[(A, 0), (B, 0)], [(A, 1)], [(A, 2)]]


async def test_a_frame_holds_at_most_so_many_entries_and_bytes():
    outbox = Outbox(max_entries_per_session=3 * MAX_FRAME_ENTRIES)
    for step in range(2 * MAX_FRAME_ENTRIES + 1):
        outbox.put(decode_entry(A, step))
    drained = await drain(outbox)
    assert [len(frame) for frame in drained] == [MAX_FRAME_ENTRIES, MAX_FRAME_ENTRIES, 1]
    assert [step for frame in drained for _, step in steps(frame)] == list(range(2 * MAX_FRAME_ENTRIES + 1))
    small = Outbox(max_frame_bytes=1000)
    for step in range(20):
        small.put(decode_entry(A, step))
    assert all(frames.encode(frame).ByteSize() <= 1000 for frame in await drain(small))


async def test_a_session_past_its_bound_overflows_and_its_neighbour_does_not():
    outbox = Outbox(max_entries_per_session=2)
    outbox.put(decode_entry(A, 0))
    outbox.put(decode_entry(A, 1))
    with pytest.raises(Overflow, match="3 entries of the session wait for a reader, at most 2"):
        outbox.put(decode_entry(A, 2))
    outbox.put(decode_entry(B, 0))
    (frame,) = await drain(outbox)
    assert steps(frame) == [(A, 0), (A, 1), (B, 0)]


async def test_bytes_are_bounded_too():
    outbox = Outbox(max_bytes_per_session=250_000)
    outbox.put(prefill_entry(A, 0))
    outbox.put(prefill_entry(A, 1))
    with pytest.raises(Overflow, match="at most 250000"):
        outbox.put(prefill_entry(A, 2))


@pytest.mark.parametrize(
    "body",
    [
        NoSeat("gone"), Opened(0, 30.0, 256), Close(), Advance(), Path(0, None, 0), Fork(B, 0),
        Trouble("f" * 32, NoSeat("gone")),
    ],
)  # fmt: skip
async def test_a_full_session_can_still_be_told_a_little(body: Body):
    outbox = Outbox(max_entries_per_session=1)
    outbox.put(decode_entry(A, 0))
    for _ in range(CONTROL_RESERVE):
        outbox.put(Entry(A, 0, body))
    with pytest.raises(Overflow):
        outbox.put(Entry(A, 0, body))
    (frame,) = await drain(outbox)
    assert len(frame) == 1 + CONTROL_RESERVE


async def test_invented_sessions_cannot_fill_the_memory():
    outbox = Outbox(max_sessions=2)
    for session in (A, B):
        outbox.put(Entry(session, 0, NoSeat("never opened")))
    with pytest.raises(Overflow):
        outbox.put(Entry(C, 0, NoSeat("never opened")))


async def test_what_was_read_makes_room_again():
    outbox = Outbox(max_entries_per_session=1, max_bytes_per_session=150_000, max_sessions=1)
    reading = outbox.frames()
    for step in range(5):
        outbox.put(prefill_entry(A, step))
        await anext(reading)
    outbox.put(decode_entry(B, 0))


async def test_room_is_made_by_every_entry_that_was_read():
    outbox = Outbox(max_bytes_per_session=250_000, max_frame_bytes=100_000)
    outbox.put(prefill_entry(A, 0))
    outbox.put(prefill_entry(A, 1))
    await anext(outbox.frames())
    outbox.put(prefill_entry(A, 2))


async def test_a_dropped_session_is_forgotten():
    outbox = Outbox(max_entries_per_session=1)
    outbox.put(decode_entry(A, 0))
    outbox.put(decode_entry(B, 0))
    outbox.drop(A)
    outbox.drop(C)
    outbox.put(decode_entry(A, 7))
    (frame,) = await drain(outbox)
    assert steps(frame) == [(B, 0), (A, 7)]


async def test_a_reader_waits_until_something_comes_and_ends_when_the_outbox_closes():
    outbox = Outbox()
    got: list[list[tuple[bytes, int]]] = []

    async def read() -> None:
        async for frame in outbox.frames():
            got.append(steps([item for item in frames.decode(frame, Limits()) if isinstance(item, Entry)]))

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    outbox.put(decode_entry(A, 0))
    outbox.put(decode_entry(B, 0))
    await asyncio.sleep(0)
    assert got == [[(A, 0), (B, 0)]]
    outbox.put(decode_entry(A, 1))
    outbox.close()
    outbox.put(decode_entry(A, 2))  # too late
    await asyncio.wait_for(reading, 20)
    assert got == [[(A, 0), (B, 0)], [(A, 1)]]


async def test_everything_comes_out_once_and_in_order_whatever_the_sizes():
    outbox = Outbox(max_frame_bytes=150_000, max_entries_per_session=100)
    sizes = [10, 200_000, 10, 10, 70_000, 70_000, 10, 300_000]
    for step, size in enumerate(sizes * 3):
        for session in (A, B, C):
            outbox.put(decode_entry(session, step) if size == 10 else prefill_entry(session, step, size))
    sent = [pair for frame in await drain(outbox) for pair in steps(frame)]
    for session in (A, B, C):
        assert [step for who, step in sent if who == session] == list(range(24))


@pytest.mark.parametrize(
    "body",
    [
        Done(MOST, MOST),
        Refused("é" * 1000, 5.0),
        Trouble("f" * 32, Refused("é" * 1000, 5.0)),
        Token(MOST, MOST, MOST, -1.5, ((MOST, -1.5),) * 64, TIMINGS),
        Chunk(MOST, MOST, 1000, Want.TOKEN, (MOST,) * 1000, drafts=(MOST,) * 64, timings=TIMINGS),
        prefill_entry(A, MOST).body,
        Opened(MOST, 86_400.0, MOST, MOST),
        Path(MOST, NEIGHBOUR, MOST, NEIGHBOUR, MOST, MOST),
        Fork(B, MOST, MOST, SAMPLING),
        Kept(MOST, (B,) * 500),
        Hello("9" * 64, "f" * 32, MOST, "f" * 32),
        Open("f" * 32, "p" * 64, Span(4000, 4096), MOST, MOST, WireDType.BF16, SAMPLING, (MOST,) * 100,
             embedded=True, num_hops=MOST, stop_token_ids=(MOST,) * 1024, draft_tokens=MOST, prefix=(B,) * 500,
             timing=True),
    ],
    ids=lambda body: type(body).__name__,
)  # fmt: skip
def test_an_entry_is_never_larger_than_its_estimate(body: Body):
    entry = Entry(A, 2**32 - 1, body)
    assert frames.encode([entry]).ByteSize() <= entry_bytes(entry)
