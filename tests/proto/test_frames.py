"""Values ↔ Frames: what goes out comes in, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import frames
from proto import shoal_pb2 as pb
from proto.limits import MAX_STEP, Limits
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
    Rejected,
    Timing,
    Token,
    Trouble,
    Want,
    WireDType,
)
from swarm.errors import FAULTS, BadRequest, Fault, Internal, Refused
from swarm.sampling import Grammar, GrammarKind, SamplingParams
from swarm.span import Span

A, B = b"a" * 16, b"b" * 16
LIMITS = Limits(hidden_size=4, vocab_size=100, max_chunk_tokens=8, max_tokens=64, max_history=16)

uint32 = st.integers(0, 2**32 - 1)
steps = st.integers(0, MAX_STEP)
token_id = st.integers(0, 99)
logprob = st.floats(-1e4, 0, width=32)
sampling = st.builds(
    SamplingParams,
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 1 << 20),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0.01, 100),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    seed=st.integers(0, 2**64 - 1),
    logprobs=st.none() | st.integers(0, 64),
    min_tokens=st.integers(0, 1 << 20),
)  # as a Fork has it
whole_sampling = st.builds(
    replace,
    sampling,
    logit_bias=st.dictionaries(token_id, st.floats(-100, 100, width=32), max_size=4).map(
        lambda each: tuple(each.items())
    ),
    end_token_ids=st.lists(token_id, max_size=3).map(tuple),
    grammar=st.none() | st.builds(Grammar, st.sampled_from(GrammarKind), st.text(min_size=1, max_size=9)),
)


peer_id = st.text("0123456789abcdef", min_size=32, max_size=32)
seat_id = st.binary(min_size=16, max_size=16)
position = st.integers(0, 64)
digests = st.lists(st.binary(min_size=16, max_size=16), max_size=8).map(tuple)
seconds = st.integers(0, 2**32 - 1).map(lambda microseconds: microseconds / 1e6)
timings = st.lists(st.builds(Timing, uint32, seconds, seconds), max_size=4).map(tuple)
neighbours = st.builds(
    Neighbour, peer_id, st.sampled_from(["10.0.0.1:4000", "peer.example:1"]), seat_id, st.integers(2, 64)
)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    count = draw(st.integers(1, 8))
    step, position, want = draw(steps), draw(st.integers(0, 64 - count)), draw(st.sampled_from(Want))
    drafts, spent = tuple(draw(st.lists(token_id, max_size=count - 1))), draw(timings)
    if draw(st.booleans()):
        ids = draw(st.lists(token_id, min_size=count, max_size=count))
        return Chunk(step, position, count, want, tuple(ids), drafts=drafts, timings=spent)
    dtype = draw(st.sampled_from(WireDType))
    size = count * 4 * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    return Chunk(step, position, count, want, None, Hidden(dtype, count, 4, data), drafts, spent)


def fault_of(kind: type[Fault], message: str) -> Fault:
    return kind(message)


faults = st.builds(fault_of, st.sampled_from(list(FAULTS.values())), st.text("abcé→", max_size=40))
bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(
        Open,
        fingerprint=st.text("0123456789abcdef", min_size=32, max_size=32),
        profile=st.sampled_from(["c8", "f32"]),
        span=st.integers(0, 4095).flatmap(lambda start: st.builds(Span, st.just(start), st.integers(start + 1, 4096))),
        max_tokens=st.integers(32, 64),
        prompt_tokens=st.integers(0, 32),
        wire=st.sampled_from(WireDType),
        sampling=st.none() | whole_sampling,
        history=st.lists(token_id, max_size=16).map(tuple),
        embedded=st.booleans(),
        num_hops=st.integers(1, 4096),
        stop_token_ids=st.lists(token_id, max_size=5).map(tuple),
        draft_tokens=st.integers(0, 64),
        prefix=digests,
        timing=st.booleans(),
    ),
    position.flatmap(
        lambda position: st.builds(
            Opened,
            st.just(position),
            st.integers(0, 10**7).map(lambda ms: ms / 1000),
            st.integers(2, 64),
            st.integers(0, position),
        )
    ),
    st.builds(Path, position, st.none() | neighbours, position, st.none() | neighbours, position, steps),
    st.builds(Fork, seat_id, position, position, st.none() | sampling),
    st.builds(Kept, position, digests),
    st.builds(Trouble, peer_id, faults),
    chunks(),
    st.builds(
        Token,
        uint32,
        st.integers(0, 64),
        token_id,
        st.none() | logprob,
        st.lists(st.tuples(token_id, logprob), max_size=64).map(tuple),
        timings,
    ),
    st.builds(Done, uint32, position),
    st.just(Advance()),
    st.just(Close()),
    faults,
)
session_entries = st.builds(Entry, st.binary(min_size=16, max_size=16), uint32, bodies)
hellos = st.builds(Hello, st.sampled_from(["0.1.0", "dev"]), st.none() | peer_id, uint32, st.none() | peer_id)
entries = st.lists(session_entries | st.builds(Entry, st.just(b""), st.just(0), hellos), max_size=5)


def comparable(item: Entry | Rejected) -> object:
    """Exceptions have no equality, so Faults are compared by what they say."""
    if isinstance(item, Entry) and isinstance(item.body, Fault):
        return item.session, item.epoch, words(item.body)
    if isinstance(item, Entry) and isinstance(item.body, Trouble):
        return item.session, item.epoch, item.body.peer_id, words(item.body.fault)
    return item


def words(fault: Fault) -> object:
    return type(fault), str(fault), getattr(fault, "retry_after_s", None)


@given(entries)
@settings(deadline=None)
def test_what_is_encoded_is_decoded_alike_from_a_frame_and_from_its_bytes(sent: list[Entry]):
    frame = frames.encode(sent)
    for form in (frame, frame.SerializeToString()):
        assert [comparable(item) for item in frames.decode(form, LIMITS)] == [comparable(entry) for entry in sent]


@given(entries, st.integers(0, 2**32))
@settings(deadline=None)
def test_damaged_bytes_are_refused_or_decoded_but_never_anything_else(sent: list[Entry], seed: int):
    chance = random.Random(seed)
    data = bytearray(frames.encode(sent).SerializeToString()) or bytearray(b"\x00")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at:at] = chance.randbytes(chance.randint(1, 4))
            case _:
                del data[at : at + chance.randint(1, 8)]
                data = data or bytearray(b"\x00")
    try:
        items = frames.decode(bytes(data), LIMITS)
    except BadRequest:
        return
    for item in items:
        assert len(item.session) in (0, 16)
        assert not isinstance(item, Rejected) or isinstance(item.fault, BadRequest)
        assert not isinstance(item, Entry) or frames.encode([item])  # a value that came in can go out


def test_a_frame_with_too_many_entries_is_refused_whole():
    frame = pb.Frame(entries=[pb.Entry(session=A, done=pb.Done())] * 4097)
    with pytest.raises(BadRequest, match="4097 entries, at most 4096"):
        frames.decode(frame, LIMITS)
    with pytest.raises(BadRequest, match="more than 4096 entries"):
        frames.decode(frame.SerializeToString(), LIMITS)


def test_sizes_of_the_model_are_only_checked_where_they_are_known():
    chunk = Chunk(0, 0, 1, Want.HIDDEN, hidden=Hidden(WireDType.F32, 1, 7, bytes(28)))
    token = Token(0, 0, 2**31)
    sent = [Entry(A, 0, chunk), Entry(A, 0, token)]
    assert frames.decode(frames.encode(sent), Limits()) == sent


def test_what_a_later_version_adds_is_ignored_within_an_entry_and_rejected_as_an_entry():
    later = pb.Entry(session=A, epoch=2).SerializeToString() + b"\x82\x01\x02\x08\x01"  # field 16
    frame = b"\x0a" + bytes([len(later)]) + later
    (item,) = frames.decode(frame, LIMITS)
    assert isinstance(item, Rejected) and item.session == A and item.epoch == 2
    extended = pb.Entry(session=A, done=pb.Done(step=1)).SerializeToString() + b"\xa2\x06\x01x"  # field 100
    assert frames.decode(b"\x0a" + bytes([len(extended)]) + extended, LIMITS) == [Entry(A, 0, Done(1, 0))]


@pytest.mark.parametrize(
    ("message", "check"),
    [
        (pb.Fault(code=99, message="hm"), lambda f: type(f) is Internal and str(f) == "fault of unknown code 99: hm"),
        (pb.Fault(code=0), lambda f: type(f) is Internal),
        (pb.Fault(code=1, message="a\nb\x1b[31m\u2028c"), lambda f: str(f) == "a b [31m c"),
        (pb.Fault(code=1, message="x" * 100_000), lambda f: len(str(f)) == 500),
        (pb.Fault(code=3, message="full"), lambda f: isinstance(f, Refused) and f.retry_after_s is None),
        (pb.Fault(code=3, retry_after_ms=1500), lambda f: isinstance(f, Refused) and f.retry_after_s == 1.5),
        (pb.Fault(code=3, retry_after_ms=2**32 - 1), lambda f: isinstance(f, Refused) and f.retry_after_s == 86_400),
    ],
)
def test_a_fault_is_always_understood_and_always_one_line(message: pb.Fault, check: Callable[[Fault], bool]):
    (item,) = frames.decode(pb.Frame(entries=[pb.Entry(session=A, fault=message)]), LIMITS)
    assert isinstance(item, Entry) and isinstance(item.body, Fault) and check(item.body)


@pytest.mark.parametrize(
    ("patience_s", "heard"), [(0.0, 0.0), (0.0001, 0.001), (-5.0, 0.0), (1e9, 86_400.0), (None, None)]
)
def test_how_long_to_wait_survives_the_way_in_whole_milliseconds(patience_s: float | None, heard: float | None):
    (item,) = frames.decode(frames.encode([Entry(A, 0, Refused("full", patience_s))]), LIMITS)
    assert isinstance(item, Entry) and isinstance(item.body, Refused) and item.body.retry_after_s == heard


@pytest.mark.parametrize(("spent_s", "heard_s"), [(0.0, 0.0), (2.4e-6, 2e-6), (-1.0, 0.0), (1e9, (2**32 - 1) / 1e6)])
def test_durations_travel_in_whole_microseconds_and_never_below_nothing(spent_s: float, heard_s: float):
    sent = Entry(A, 0, Token(0, 0, 1, timings=(Timing(4, spent_s, spent_s),)))
    (item,) = frames.decode(frames.encode([sent]), LIMITS)
    assert isinstance(item, Entry) and isinstance(item.body, Token)
    assert item.body.timings == (Timing(4, heard_s, heard_s),)
