"""What is refused on the way in, entry by entry; each case is wrong in one thing."""

from __future__ import annotations

import pytest

from proto import frames
from proto import shoal_pb2 as pb
from proto.limits import Limits
from proto.messages import Done, Entry, Rejected
from swarm.errors import BadRequest

A, B = b"a" * 16, b"b" * 16
LIMITS = Limits(hidden_size=4, vocab_size=100, max_chunk_tokens=8, max_tokens=64, max_history=16)


def open_message(**changes: object) -> pb.Open:
    given: dict[str, object] = {
        "fingerprint": "f" * 32, "profile": "c8", "span": pb.SpanRange(start=0, end=4), "max_tokens": 32,
        "prompt_tokens": 4, "wire": 1, "num_hops": 1,
    }  # fmt: skip
    return pb.Open(**{**given, **changes})  # type: ignore[arg-type]


def chunk_message(**changes: object) -> pb.Chunk:
    given: dict[str, object] = {"step": 0, "position": 0, "count": 2, "want": 3, "token_ids": [1, 2]}
    return pb.Chunk(**{**given, **changes})  # type: ignore[arg-type]


def hidden_message(**changes: object) -> pb.Chunk:
    given: dict[str, object] = {"dtype": 1, "rows": 2, "cols": 4, "data": bytes(32)}
    drafts = changes.pop("drafts", [])
    return chunk_message(token_ids=[], drafts=drafts, hidden=pb.Tensor(**{**given, **changes}))  # type: ignore[arg-type]


def path_message(which: str = "next", **changes: object) -> pb.Path:
    given: dict[str, object] = {"peer_id": "f" * 32, "address": "h:1", "seat": B, "max_chunk_tokens": 4}
    return pb.Path(**{which: pb.Neighbour(**{**given, **changes})})  # type: ignore[arg-type]


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
        ({"hello": pb.Hello(version="1", client_id="me"), "session": b""}, "client id must be 32 hex digits"),
        ({"open": open_message(fingerprint="F" * 32)}, "fingerprint must be 32 hex digits"),
        ({"open": open_message(fingerprint="f" * 33)}, "fingerprint must be 32 hex digits"),
        ({"open": open_message(profile="")}, "profile must be"),
        ({"open": open_message(profile="c" * 65)}, "profile must be"),
        ({"open": open_message(span=pb.SpanRange(start=4, end=4))}, "span 4:4 is empty"),
        ({"open": open_message(span=pb.SpanRange(start=5, end=4))}, "span 5:4"),
        ({"open": open_message(span=pb.SpanRange(start=0, end=4097))}, "end of the span is 4097, expected 1..4096"),
        (
            {"open": pb.Open(fingerprint="f" * 32, profile="c8", max_tokens=4, wire=1, num_hops=1)},
            "end of the span is 0",
        ),  # type: ignore[arg-type]
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
        ({"open": sampling_message(bias_token_ids=[1], biases=[100.5])}, "logit_bias"),
        ({"open": sampling_message(bias_token_ids=[1], biases=[NAN])}, "logit_bias"),
        ({"open": sampling_message(bias_token_ids=[1, 1], biases=[1, 2])}, "names a token twice"),
        ({"open": sampling_message(bias_token_ids=[100], biases=[1])}, "token id 100 is outside the vocabulary of 100"),
        ({"open": sampling_message(bias_token_ids=[1], biases=[])}, "0 biases came for 1 tokens"),
        ({"open": sampling_message(bias_token_ids=[1] * 1025, biases=[1] * 1025)}, "number of biases is 1025"),
        ({"open": sampling_message(min_tokens=2**32 - 1)}, "min_tokens"),
        ({"open": sampling_message(end_token_ids=[1] * 1025)}, "number of end tokens is 1025"),
        ({"open": sampling_message(end_token_ids=[100])}, "token id 100 is outside the vocabulary of 100"),
        ({"open": sampling_message(grammar=pb.Grammar(kind=9, text="x"))}, "unknown kind 9"),
        ({"open": sampling_message(grammar=pb.Grammar(kind=1))}, "letters of the grammar is 0"),
        ({"open": sampling_message(grammar=pb.Grammar(kind=1, text="x" * 65537))}, "letters of the grammar is 65537"),
        ({"open": sampling_message(grammar=pb.Grammar(kind=1, text="ü" * 32769))}, "65538 bytes"),
        ({"open": open_message(num_hops=0)}, "num_hops is 0, expected 1..4096"),
        ({"open": open_message(num_hops=4097)}, "num_hops is 4097"),
        ({"open": open_message(stop_token_ids=[1] * 1025)}, "number of stop ids is 1025, expected 0..1024"),
        ({"open": open_message(stop_token_ids=[100])}, "token id 100 is outside the vocabulary of 100"),
        ({"open": open_message(draft_tokens=65)}, "draft_tokens is 65, expected 0..64"),
        ({"open": open_message(prefix=[bytes(16)] * 65)}, "number of digests is 65, expected 0..64"),
        ({"open": open_message(prefix=[bytes(16), bytes(15)])}, "a digest has 15 bytes, expected 16"),
        ({"opened": pb.Opened(position=65, max_chunk_tokens=2)}, "position is 65, expected 0..64"),
        ({"opened": pb.Opened(max_chunk_tokens=0)}, "max_chunk_tokens is 0"),
        ({"opened": pb.Opened(max_chunk_tokens=65)}, "max_chunk_tokens is 65"),
        ({"opened": pb.Opened(max_chunk_tokens=2, lease_ms=2**32 - 1)}, "lease is 4294967295 ms"),
        ({"opened": pb.Opened(position=3, max_chunk_tokens=2, kept_from=4)}, "kept_from is 4, expected 0..3"),
        ({"path": pb.Path(position=65)}, "path: position is 65, expected 0..64"),
        ({"path": pb.Path(next_position=65)}, "next_position is 65, expected 0..64"),
        ({"path": pb.Path(num_tokens=65)}, "num_tokens is 65, expected 0..64"),
        ({"path": path_message("next", peer_id="f" * 31)}, "path: next: peer id must be 32 hex digits"),
        ({"path": path_message("feed", peer_id="F" * 32)}, "path: feed: peer id must be 32 hex digits"),
        ({"path": path_message("next", address="")}, "path: next: address '' is not an address"),
        ({"path": path_message("next", address="nowhere")}, "next: address 'nowhere' is not"),
        ({"path": path_message("feed", address="h:1\n")}, "feed: address"),
        ({"path": path_message("feed", address="h" * 254 + ":1")}, "is not an address"),
        ({"path": path_message("next", seat=bytes(15))}, "next: seat id has 15 bytes, expected 16"),
        ({"path": path_message("feed", max_chunk_tokens=0)}, "feed: max_chunk_tokens is 0, expected 2..64"),
        ({"chunk": pb.Chunk(step=2**32 - 1, count=1, want=1, token_ids=[1])}, "chunk: step is 4294967295"),
        ({"path": pb.Path(step=2**32 - 1)}, "path: step is 4294967295"),
        ({"path": path_message("feed", max_chunk_tokens=65)}, "feed: max_chunk_tokens is 65"),
        ({"fork": pb.Fork(seat=bytes(17))}, "fork: seat id has 17 bytes, expected 16"),
        ({"fork": pb.Fork()}, "fork: seat id has 0 bytes"),
        ({"fork": pb.Fork(seat=B, position=65)}, "fork: position is 65, expected 0..64"),
        ({"fork": pb.Fork(seat=B, num_tokens=65)}, "fork: num_tokens is 65, expected 0..64"),
        ({"fork": pb.Fork(seat=B, sampling=pb.Sampling())}, "fork: top_p"),
        ({"kept": pb.Kept(first=65)}, "kept: first is 65, expected 0..64"),
        ({"kept": pb.Kept(digests=[b""])}, "a digest has 0 bytes, expected 16"),
        ({"kept": pb.Kept(digests=[B] * 65)}, "number of digests is 65"),
        ({"trouble": pb.Trouble(peer_id="somebody")}, "trouble: peer id must be 32 hex digits"),
        ({"done": pb.Done(position=65)}, "done: position is 65, expected 0..64"),
        ({"chunk": chunk_message(drafts=[1, 2])}, "number of drafts is 2, expected 0..1"),
        ({"chunk": hidden_message(drafts=[100])}, "token id 100 is outside the vocabulary of 100"),
        ({"chunk": chunk_message(timings=[pb.Timing()] * 4097)}, "number of timings is 4097, expected 0..4096"),
        ({"token": pb.Token(timings=[pb.Timing()] * 4097)}, "number of timings is 4097"),
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
    good = pb.Entry(session=B, epoch=1, done=pb.Done(step=9, position=4))
    before, rejected, after = frames.decode(pb.Frame(entries=[good, bad, good]), LIMITS)
    assert before == after == Entry(B, 1, Done(9, 4))
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
        {"chunk": chunk_message(drafts=[1])},
        {"path": path_message("next")},
        {"path": path_message("feed", address="h" * 253 + ":65535")},
        {"fork": pb.Fork(seat=B)},
        {"kept": pb.Kept(digests=[B])},
        {"trouble": pb.Trouble(peer_id="f" * 32, fault=pb.Fault(code=1))},
    ]
    for fields in messages:
        (item,) = frames.decode(pb.Frame(entries=[pb.Entry(session=A, **fields)]), LIMITS)  # type: ignore[arg-type]
        assert isinstance(item, Entry)
