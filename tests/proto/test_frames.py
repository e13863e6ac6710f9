"""Values ↔ Frames: what goes out comes in, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import frames
from proto import shoal_pb2 as pb
from proto.frames import Limits
from proto.messages import (
    Advance,
    Body,
    Chunk,
    Close,
    Done,
    Entry,
    Hello,
    Hidden,
    Open,
    Opened,
    Rejected,
    Token,
    Want,
    WireDType,
)
from swarm.errors import FAULTS, BadRequest, Fault, Internal, Refused
from swarm.sampling import SamplingParams
from swarm.span import Span

A, B = b"a" * 16, b"b" * 16
LIMITS = Limits(hidden_size=4, vocab_size=100, max_chunk_tokens=8, max_tokens=64, max_history=16)

uint32 = st.integers(0, 2**32 - 1)
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
)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    count = draw(st.integers(1, 8))
    step, position, want = draw(uint32), draw(st.integers(0, 64 - count)), draw(st.sampled_from(Want))
    if draw(st.booleans()):
        ids = draw(st.lists(token_id, min_size=count, max_size=count))
        return Chunk(step, position, count, want, token_ids=tuple(ids))
    dtype = draw(st.sampled_from(WireDType))
    size = count * 4 * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    return Chunk(step, position, count, want, hidden=Hidden(dtype, count, 4, data))


def faults(kind: type[Fault], message: str) -> Fault:
    return kind(message)


bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(
        Open,
        fingerprint=st.text("0123456789abcdef", min_size=32, max_size=32),
        profile=st.sampled_from(["c8", "f32"]),
        span=st.integers(0, 4095).flatmap(lambda start: st.builds(Span, st.just(start), st.integers(start + 1, 4096))),
        max_tokens=st.integers(32, 64),
        prompt_tokens=st.integers(0, 32),
        wire=st.sampled_from(WireDType),
        sampling=st.none() | sampling,
        history=st.lists(token_id, max_size=16).map(tuple),
    ),
    st.builds(Opened, st.integers(0, 64), st.integers(0, 10**7).map(lambda ms: ms / 1000), st.integers(1, 64)),
    chunks(),
    st.builds(
        Token,
        uint32,
        st.integers(0, 64),
        token_id,
        st.none() | logprob,
        st.lists(st.tuples(token_id, logprob), max_size=64).map(tuple),
    ),
    st.builds(Done, uint32),
    st.just(Advance()),
    st.just(Close()),
    st.builds(faults, st.sampled_from(list(FAULTS.values())), st.text("abcé→", max_size=40)),
)
session_entries = st.builds(Entry, st.binary(min_size=16, max_size=16), uint32, bodies)
hellos = st.builds(Hello, st.sampled_from(["0.1.0", "dev"]), st.none() | st.just("ab" * 16), uint32)
entries = st.lists(session_entries | st.builds(Entry, st.just(b""), st.just(0), hellos), max_size=5)


def comparable(item: Entry | Rejected) -> object:
    """Exceptions have no equality, so Faults are compared by what they say."""
    if isinstance(item, Entry) and isinstance(item.body, Fault):
        return item.session, item.epoch, type(item.body), str(item.body), getattr(item.body, "retry_after_s", None)
    return item


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


def open_message(**changes: object) -> pb.Open:
    given: dict[str, object] = {
        "fingerprint": "f" * 32, "profile": "c8", "span": pb.SpanRange(start=0, end=4), "max_tokens": 32,
        "prompt_tokens": 4, "wire": 1,
    }  # fmt: skip
    return pb.Open(**{**given, **changes})  # type: ignore[arg-type]


def chunk_message(**changes: object) -> pb.Chunk:
    given: dict[str, object] = {"step": 0, "position": 0, "count": 2, "want": 3, "token_ids": [1, 2]}
    return pb.Chunk(**{**given, **changes})  # type: ignore[arg-type]


def hidden_message(**changes: object) -> pb.Chunk:
    given: dict[str, object] = {"dtype": 1, "rows": 2, "cols": 4, "data": bytes(32)}
    return chunk_message(token_ids=[], hidden=pb.Tensor(**{**given, **changes}))  # type: ignore[arg-type]


def sampling_message(**changes: object) -> pb.Open:
    given: dict[str, object] = {"top_p": 1.0, "repetition_penalty": 1.0}
    return open_message(sampling=pb.Sampling(**{**given, **changes}))  # type: ignore[arg-type]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "no body"),
        ({"done": pb.Done(), "session": b"short"}, "session id has 5 bytes, expected 16"),
        ({"done": pb.Done(), "session": bytes(17)}, "session id has 17 bytes, expected 16"),
        ({"done": pb.Done(), "session": b""}, "done names no session"),
        ({"hello": pb.Hello(protocol=1, version="1")}, "hello belongs to the link"),
        ({"hello": pb.Hello(version=""), "session": b""}, "version must be 1..64 printable letters"),
        ({"hello": pb.Hello(version="\x1b[2J"), "session": b""}, "printable"),
        ({"hello": pb.Hello(version="1", peer_id="../../x"), "session": b""}, "peer id must be 32 hex digits"),
        ({"open": open_message(fingerprint="F" * 32)}, "fingerprint must be 32 hex digits"),
        ({"open": open_message(fingerprint="f" * 33)}, "fingerprint must be 32 hex digits"),
        ({"open": open_message(profile="")}, "profile must be"),
        ({"open": open_message(profile="c" * 65)}, "profile must be"),
        ({"open": open_message(span=pb.SpanRange(start=4, end=4))}, "span 4:4 is empty"),
        ({"open": open_message(span=pb.SpanRange(start=5, end=4))}, "span 5:4"),
        ({"open": open_message(span=pb.SpanRange(start=0, end=4097))}, "end of the span is 4097, expected 1..4096"),
        ({"open": pb.Open(fingerprint="f" * 32, profile="c8", max_tokens=4, wire=1)}, "end of the span is 0"),  # type: ignore[arg-type]
        ({"open": open_message(max_tokens=0)}, "max_tokens is 0, expected 1..64"),
        ({"open": open_message(max_tokens=65)}, "max_tokens is 65, expected 1..64"),
        ({"open": open_message(prompt_tokens=33)}, "prompt_tokens is 33, expected 0..32"),
        ({"open": open_message(wire=0)}, "unknown dtype 0"),
        ({"open": open_message(wire=3)}, "unknown dtype 3"),
        ({"open": open_message(history=[1] * 17)}, "length of history is 17, expected 0..16"),
        ({"open": open_message(history=[1, 100])}, "token id 100 is outside the vocabulary of 100"),
        ({"open": sampling_message(temperature=-0.5)}, "open: temperature must lie in"),
        ({"open": sampling_message(temperature=NAN)}, "temperature"),
        ({"open": sampling_message(temperature=INF)}, "temperature"),
        ({"open": sampling_message(top_p=0.0)}, "top_p"),
        ({"open": sampling_message(top_p=1.5)}, "top_p"),
        ({"open": sampling_message(min_p=NAN)}, "min_p"),
        ({"open": sampling_message(top_k=(1 << 20) + 1)}, "top_k"),
        ({"open": sampling_message(repetition_penalty=0.0)}, "repetition_penalty"),
        ({"open": sampling_message(presence_penalty=2.5)}, "presence_penalty"),
        ({"open": sampling_message(frequency_penalty=-INF)}, "frequency_penalty"),
        ({"open": sampling_message(logprobs=65)}, "logprobs"),
        ({"opened": pb.Opened(position=65, max_chunk_tokens=1)}, "position is 65, expected 0..64"),
        ({"opened": pb.Opened(max_chunk_tokens=0)}, "max_chunk_tokens is 0"),
        ({"opened": pb.Opened(max_chunk_tokens=65)}, "max_chunk_tokens is 65"),
        ({"opened": pb.Opened(max_chunk_tokens=1, lease_ms=2**32 - 1)}, "lease is 4294967295 ms"),
        ({"chunk": chunk_message(count=0, token_ids=[])}, "count is 0, expected 1..8"),
        ({"chunk": chunk_message(count=9, token_ids=[1] * 9)}, "count is 9, expected 1..8"),
        ({"chunk": chunk_message(position=63)}, "end is 65, expected 1..64"),
        ({"chunk": chunk_message(position=2**32 - 1)}, "end is 4294967297"),
        ({"chunk": chunk_message(want=0)}, "unknown want 0"),
        ({"chunk": chunk_message(want=4)}, "unknown want 4"),
        ({"chunk": chunk_message(token_ids=[])}, "expected token ids or hidden states, got neither"),
        ({"chunk": chunk_message(hidden=pb.Tensor())}, "expected token ids or hidden states, got both"),
        ({"chunk": chunk_message(token_ids=[1])}, "1 token ids came for 2 positions"),
        ({"chunk": chunk_message(token_ids=[1, 2, 3])}, "3 token ids came for 2 positions"),
        ({"chunk": chunk_message(token_ids=[1, 100])}, "token id 100 is outside the vocabulary of 100"),
        ({"chunk": hidden_message(dtype=0)}, "unknown dtype 0"),
        ({"chunk": hidden_message(rows=3)}, "3 rows of hidden states came for 2 positions"),
        ({"chunk": hidden_message(cols=5, data=bytes(40))}, "5 wide, expected 4"),
        ({"chunk": hidden_message(cols=0, data=b"")}, "0 wide"),
        ({"chunk": hidden_message(data=bytes(31))}, r"hidden states \[2, 4\] F32 came with 31 bytes, expected 32"),
        ({"chunk": hidden_message(data=bytes(33))}, "33 bytes, expected 32"),
        ({"chunk": hidden_message(dtype=2)}, "BF16 came with 32 bytes, expected 16"),
        ({"token": pb.Token(token_id=100)}, "token id 100 is outside"),
        ({"token": pb.Token(position=65)}, "position is 65"),
        ({"token": pb.Token(logprob=NAN)}, "logprob is not a finite number"),
        ({"token": pb.Token(top=[pb.Candidate(logprob=-INF)])}, "logprob is not a finite number"),
        ({"token": pb.Token(top=[pb.Candidate(token_id=100)])}, "token id 100 is outside"),
        ({"token": pb.Token(top=[pb.Candidate()] * 65)}, "number of alternatives is 65, expected 0..64"),
    ],
)
def test_an_entry_that_breaks_a_limit_is_rejected_and_its_neighbours_are_not(fields: dict[str, object], complaint: str):
    bad = pb.Entry(**{"session": A, "epoch": 3, **fields})  # type: ignore[arg-type]
    good = pb.Entry(session=B, epoch=1, done=pb.Done(step=9))
    before, rejected, after = frames.decode(pb.Frame(entries=[good, bad, good]), LIMITS)
    assert before == after == Entry(B, 1, Done(9))
    assert isinstance(rejected, Rejected) and rejected.epoch == 3
    assert rejected.session == (A if fields.get("session", A) == A else b"")
    with pytest.raises(BadRequest, match=complaint):
        raise rejected.fault


def test_the_models_of_the_rejected_messages_are_themselves_accepted():
    """So that each case above is rejected for the one thing that was changed."""
    messages: list[dict[str, object]] = [
        {"open": open_message()},
        {"open": sampling_message()},
        {"chunk": chunk_message()},
        {"chunk": hidden_message()},
    ]
    for fields in messages:
        (item,) = frames.decode(pb.Frame(entries=[pb.Entry(session=A, **fields)]), LIMITS)  # type: ignore[arg-type]
        assert isinstance(item, Entry)


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
    later = pb.Entry(session=A, epoch=2).SerializeToString() + b"\x62\x02\x08\x01"  # field 12: Truncate, one day
    frame = b"\x0a" + bytes([len(later)]) + later
    (item,) = frames.decode(frame, LIMITS)
    assert isinstance(item, Rejected) and item.session == A and item.epoch == 2
    extended = pb.Entry(session=A, done=pb.Done(step=1)).SerializeToString() + b"\xa2\x06\x01x"  # field 100
    assert frames.decode(b"\x0a" + bytes([len(extended)]) + extended, LIMITS) == [Entry(A, 0, Done(1))]


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
