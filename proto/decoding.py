"""Messages → values. Everything that comes from outside is checked here, against Limits, before it becomes a value.

Knows messages and limits; no I/O, no tensors, and nothing of what a Seat would accept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from proto import shoal_pb2 as pb
from proto.limits import (
    DIGEST_BYTES,
    LEAST_CHUNK_TOKENS,
    MAX_DRAFTS,
    MAX_FAULT_LETTERS,
    MAX_STEP,
    MAX_STOP_IDS,
    MAX_WAIT_S,
    Limits,
)
from proto.messages import (
    SESSION_BYTES,
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
from proto.peerinfo import MAX_TEXT
from swarm.address import Address
from swarm.errors import FAULTS, BadGrammar, BadRequest, Fault, FaultCode, Internal, Refused, UsageError
from swarm.sampling import (
    MAX_BIASED,
    MAX_END_IDS,
    MAX_GRAMMAR_BYTES,
    MAX_LOGPROBS,
    Grammar,
    GrammarKind,
    SamplingParams,
)
from swarm.span import Span
from swarm.text import one_line


def decode_entry(entry: pb.Entry, limits: Limits) -> Entry | Rejected:
    """``Rejected.session`` is empty when the entry named no Session that could be told: then the Link is."""
    session = entry.session if len(entry.session) == SESSION_BYTES else b""
    kind = entry.WhichOneof("body")
    try:
        if kind is None:
            raise BadRequest("entry has no body that this version knows")
        if len(entry.session) not in (0, SESSION_BYTES):
            raise BadRequest(f"session id has {len(entry.session)} bytes, expected {SESSION_BYTES}")
        if not session and kind not in ("hello", "fault"):
            raise BadRequest(f"{kind} names no session")
        if session and kind == "hello":
            raise BadRequest("hello belongs to the link, not to a session")
        return Entry(session, entry.epoch, _DECODERS[kind](entry, limits))
    except BadRequest as fault:
        return Rejected(session, entry.epoch, fault)
    except UsageError as error:  # our values check themselves when built
        return Rejected(session, entry.epoch, BadRequest(f"{kind}: {error}"))


def _decode_hello(entry: pb.Entry, limits: Limits) -> Hello:
    hello = entry.hello
    if hello.peer_id and not re.fullmatch("[0-9a-f]{32}", hello.peer_id):
        raise BadRequest(f"hello: peer id must be 32 hex digits, not {hello.peer_id[:40]!r}")
    if hello.client_id and not re.fullmatch("[0-9a-f]{32}", hello.client_id):
        raise BadRequest(f"hello: client id must be 32 hex digits, not {hello.client_id[:40]!r}")
    version = _text("hello: version", hello.version)
    return Hello(version, hello.peer_id or None, hello.protocol, hello.client_id or None)


def _decode_open(entry: pb.Entry, limits: Limits) -> Open:
    opening = entry.open
    if not re.fullmatch("[0-9a-f]{32}", opening.fingerprint):
        raise BadRequest(f"open: fingerprint must be 32 hex digits, not {opening.fingerprint[:40]!r}")
    _within("open: end of the span", opening.span.end, 1, limits.max_blocks)
    _within("open: max_tokens", opening.max_tokens, 1, limits.max_tokens)
    _within("open: prompt_tokens", opening.prompt_tokens, 0, opening.max_tokens)
    _within("open: length of history", len(opening.history), 0, limits.max_history)
    _within("open: number of stop ids", len(opening.stop_token_ids), 0, MAX_STOP_IDS)
    _within("open: draft_tokens", opening.draft_tokens, 0, MAX_DRAFTS)
    _within("open: num_hops", opening.num_hops, 1, limits.max_blocks)
    return Open(
        fingerprint=opening.fingerprint,
        profile=_text("open: profile", opening.profile),
        span=Span(opening.span.start, opening.span.end),
        max_tokens=opening.max_tokens,
        prompt_tokens=opening.prompt_tokens,
        wire=_dtype(opening.wire),
        sampling=_decode_sampling(opening.sampling, limits) if opening.HasField("sampling") else None,
        history=_token_ids(opening.history, limits),
        embedded=opening.embedded,
        num_hops=opening.num_hops,
        stop_token_ids=_token_ids(opening.stop_token_ids, limits),
        draft_tokens=opening.draft_tokens,
        prefix=_digests(opening.prefix, limits),
        timing=opening.timing,
    )


def _decode_sampling(sampling: pb.Sampling, limits: Limits) -> SamplingParams:
    ids, biases = sampling.bias_token_ids, sampling.biases
    _within("sampling: number of biases", len(biases), 0, MAX_BIASED)
    if len(ids) != len(biases):
        raise BadRequest(f"sampling: {len(biases)} biases came for {len(ids)} tokens")
    _within("sampling: number of end tokens", len(sampling.end_token_ids), 0, MAX_END_IDS)
    return SamplingParams(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        seed=sampling.seed,
        logprobs=sampling.logprobs if sampling.HasField("logprobs") else None,
        logit_bias=tuple(zip(_token_ids(ids, limits), biases, strict=True)),
        min_tokens=sampling.min_tokens,
        end_token_ids=_token_ids(sampling.end_token_ids, limits),
        grammar=_decode_grammar(sampling.grammar) if sampling.HasField("grammar") else None,
    )


def _decode_grammar(grammar: pb.Grammar) -> Grammar:
    _within("sampling: letters of the grammar", len(grammar.text), 1, MAX_GRAMMAR_BYTES)
    try:
        return Grammar(GrammarKind(grammar.kind), grammar.text)
    except ValueError:
        raise BadGrammar(f"grammar: unknown kind {grammar.kind}") from None


def _decode_opened(entry: pb.Entry, limits: Limits) -> Opened:
    opened = entry.opened
    _within("opened: position", opened.position, 0, limits.max_tokens)
    _within("opened: max_chunk_tokens", opened.max_chunk_tokens, LEAST_CHUNK_TOKENS, limits.max_tokens)
    _within("opened: kept_from", opened.kept_from, 0, opened.position)
    lease_s = _seconds("opened: lease", opened.lease_ms)
    return Opened(opened.position, lease_s, opened.max_chunk_tokens, opened.kept_from)


def _decode_path(entry: pb.Entry, limits: Limits) -> Path:
    path = entry.path
    _within("path: position", path.position, 0, limits.max_tokens)
    _within("path: next_position", path.next_position, 0, limits.max_tokens)
    _within("path: num_tokens", path.num_tokens, 0, limits.max_tokens)
    _within("path: step", path.step, 0, MAX_STEP)
    following = _decode_neighbour("next", path.next, limits) if path.HasField("next") else None
    feed = _decode_neighbour("feed", path.feed, limits) if path.HasField("feed") else None
    return Path(path.position, following, path.next_position, feed, path.num_tokens, path.step)


def _decode_neighbour(what: str, neighbour: pb.Neighbour, limits: Limits) -> Neighbour:
    if not re.fullmatch("[0-9a-f]{32}", neighbour.peer_id):
        raise BadRequest(f"path: {what}: peer id must be 32 hex digits, not {neighbour.peer_id[:40]!r}")
    Address.parse(neighbour.address, f"{what}: address")
    _within(f"path: {what}: max_chunk_tokens", neighbour.max_chunk_tokens, LEAST_CHUNK_TOKENS, limits.max_tokens)
    return Neighbour(neighbour.peer_id, neighbour.address, _seat_id(what, neighbour.seat), neighbour.max_chunk_tokens)


def _decode_fork(entry: pb.Entry, limits: Limits) -> Fork:
    fork = entry.fork
    _within("fork: position", fork.position, 0, limits.max_tokens)
    _within("fork: num_tokens", fork.num_tokens, 0, limits.max_tokens)
    sampling = _decode_sampling(fork.sampling, limits) if fork.HasField("sampling") else None
    return Fork(_seat_id("fork", fork.seat), fork.position, fork.num_tokens, sampling)


def _decode_kept(entry: pb.Entry, limits: Limits) -> Kept:
    _within("kept: first", entry.kept.first, 0, limits.max_tokens)
    return Kept(entry.kept.first, _digests(entry.kept.digests, limits))


def _decode_trouble(entry: pb.Entry, limits: Limits) -> Trouble:
    if not re.fullmatch("[0-9a-f]{32}", entry.trouble.peer_id):
        raise BadRequest(f"trouble: peer id must be 32 hex digits, not {entry.trouble.peer_id[:40]!r}")
    return Trouble(entry.trouble.peer_id, _fault(entry.trouble.fault))


def _decode_chunk(entry: pb.Entry, limits: Limits) -> Chunk:
    chunk = entry.chunk
    _within("chunk: count", chunk.count, 1, limits.max_chunk_tokens)
    _within("chunk: step", chunk.step, 0, MAX_STEP)
    _within("chunk: end", chunk.position + chunk.count, 1, limits.max_tokens)
    try:
        want = Want(chunk.want)
    except ValueError:
        raise BadRequest(f"chunk: unknown want {chunk.want}") from None
    if chunk.HasField("hidden") == bool(chunk.token_ids):
        raise BadRequest(f"chunk: expected token ids or hidden states, got {'both' if chunk.token_ids else 'neither'}")
    _within("chunk: number of drafts", len(chunk.drafts), 0, min(chunk.count - 1, MAX_DRAFTS))
    drafts, timings = _token_ids(chunk.drafts, limits), _timings(chunk.timings, limits)
    if chunk.HasField("hidden"):
        hidden = _decode_hidden(chunk.hidden, chunk.count, limits)
        return Chunk(chunk.step, chunk.position, chunk.count, want, None, hidden, drafts, timings)
    if len(chunk.token_ids) != chunk.count:
        raise BadRequest(f"chunk: {len(chunk.token_ids)} token ids came for {chunk.count} positions")
    token_ids = _token_ids(chunk.token_ids, limits)
    return Chunk(chunk.step, chunk.position, chunk.count, want, token_ids, None, drafts, timings)


def _decode_hidden(tensor: pb.Tensor, count: int, limits: Limits) -> Hidden:
    dtype = _dtype(tensor.dtype)
    if tensor.rows != count:
        raise BadRequest(f"chunk: {tensor.rows} rows of hidden states came for {count} positions")
    if tensor.cols == 0 or limits.hidden_size not in (None, tensor.cols):
        raise BadRequest(f"chunk: hidden states are {tensor.cols} wide, expected {limits.hidden_size or 'at least 1'}")
    expected = tensor.rows * tensor.cols * dtype.itemsize
    if len(tensor.data) != expected:
        shape = f"[{tensor.rows}, {tensor.cols}] {dtype.name}"
        raise BadRequest(f"chunk: hidden states {shape} came with {len(tensor.data)} bytes, expected {expected}")
    return Hidden(dtype, tensor.rows, tensor.cols, tensor.data)


def _decode_token(entry: pb.Entry, limits: Limits) -> Token:
    token = entry.token
    _within("token: position", token.position, 0, limits.max_tokens)
    _within("token: number of alternatives", len(token.top), 0, MAX_LOGPROBS)
    _token_ids((token.token_id, *(candidate.token_id for candidate in token.top)), limits)
    logprob = token.logprob if token.HasField("logprob") else None
    top = tuple((candidate.token_id, candidate.logprob) for candidate in token.top)
    if not all(math.isfinite(value) for value in (logprob or 0.0, *(value for _, value in top))):
        raise BadRequest("token: a logprob is not a finite number")
    return Token(token.step, token.position, token.token_id, logprob, top, _timings(token.timings, limits))


def _decode_done(entry: pb.Entry, limits: Limits) -> Done:
    _within("done: position", entry.done.position, 0, limits.max_tokens)
    return Done(entry.done.step, entry.done.position)


def _fault(fault: pb.Fault) -> Fault:
    message = one_line(fault.message, MAX_FAULT_LETTERS)
    try:
        kind = FAULTS[FaultCode(fault.code)]
    except ValueError:
        return Internal(f"fault of unknown code {fault.code}: {message}")
    if kind is not Refused:
        return kind(message)
    patience = fault.HasField("retry_after_ms")
    return Refused(message, min(fault.retry_after_ms / 1000, MAX_WAIT_S) if patience else None)


_DECODERS: dict[str, Callable[[pb.Entry, Limits], Body]] = {
    "hello": _decode_hello,
    "open": _decode_open,
    "opened": _decode_opened,
    "chunk": _decode_chunk,
    "token": _decode_token,
    "done": _decode_done,
    "path": _decode_path,
    "fork": _decode_fork,
    "kept": _decode_kept,
    "trouble": _decode_trouble,
    "advance": lambda entry, limits: Advance(),
    "close": lambda entry, limits: Close(),
    "fault": lambda entry, limits: _fault(entry.fault),
}


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadRequest(f"{what} is {value}, expected {low}..{high}")


def _text(what: str, value: str) -> str:
    if not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise BadRequest(f"{what} must be 1..{MAX_TEXT} printable letters, not {value[:MAX_TEXT]!r}")
    return value


def _token_ids(ids: Sequence[int], limits: Limits) -> tuple[int, ...]:
    highest = max(ids, default=0)
    if limits.vocab_size is not None and highest >= limits.vocab_size:
        raise BadRequest(f"token id {highest} is outside the vocabulary of {limits.vocab_size}")
    return tuple(ids)


def _seat_id(what: str, seat: bytes) -> bytes:
    if len(seat) != SESSION_BYTES:
        raise BadRequest(f"{what}: seat id has {len(seat)} bytes, expected {SESSION_BYTES}")
    return seat


def _digests(digests: Sequence[bytes], limits: Limits) -> tuple[bytes, ...]:
    _within("number of digests", len(digests), 0, limits.max_tokens)
    wrong = next((digest for digest in digests if len(digest) != DIGEST_BYTES), None)
    if wrong is not None:
        raise BadRequest(f"a digest has {len(wrong)} bytes, expected {DIGEST_BYTES}")
    return tuple(digests)


def _timings(timings: Sequence[pb.Timing], limits: Limits) -> tuple[Timing, ...]:
    _within("number of timings", len(timings), 0, limits.max_blocks)
    return tuple(Timing(each.start, each.queue_us / 1e6, each.compute_us / 1e6) for each in timings)


def _dtype(value: int) -> WireDType:
    try:
        return WireDType(value)
    except ValueError:
        raise BadRequest(f"unknown dtype {value}") from None


def _seconds(what: str, milliseconds: int) -> float:
    if milliseconds > MAX_WAIT_S * 1000:
        raise BadRequest(f"{what} is {milliseconds} ms, expected at most {MAX_WAIT_S:g} s")
    return milliseconds / 1000
