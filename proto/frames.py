"""Values ↔ Frames. Everything that comes from outside is checked here, against Limits, before it becomes a value.

An entry that breaks a limit becomes Rejected, so that only its Session hears of it; a Frame that breaks one is a
BadRequest of the whole Link. Knows messages and limits; no I/O, no tensors, and nothing of what a Seat would accept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from proto import shoal_pb2 as pb
from proto.messages import (
    SESSION_BYTES,
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
from proto.peerinfo import MAX_TEXT
from proto.scan import scan
from swarm.errors import FAULTS, BadRequest, Fault, FaultCode, Internal, Refused, UsageError
from swarm.sampling import MAX_LOGPROBS, SamplingParams
from swarm.span import Span
from swarm.text import one_line

MAX_MESSAGE = 500  # letters of a Fault's message
MAX_WAIT_S = 86_400.0  # of a lease or of retry_after


@dataclass(frozen=True, slots=True)
class Limits:
    """What this side takes from the other. Sizes that depend on the model are None where no model is known yet."""

    hidden_size: int | None = None
    vocab_size: int | None = None
    max_entries: int = 4096  # of one Frame
    max_chunk_tokens: int = 4096
    max_tokens: int = 1 << 20  # of a Session
    max_history: int = 1 << 20  # tokens
    max_blocks: int = 4096
    max_frame_bytes: int = 64 << 20


def encode(entries: Sequence[Entry]) -> pb.Frame:
    """One Frame with all of ``entries``, in order. They are our own, hence not checked."""
    return pb.Frame(entries=[_encode_entry(entry) for entry in entries])


def decode(frame: pb.Frame | bytes, limits: Limits) -> list[Entry | Rejected]:
    """The entries of a Frame, or of its bytes. Raises BadRequest when it is none or has too many.

    Bytes are the safer way in: a Frame that is nothing but a bomb is then refused before protobuf unpacks it.
    """
    if isinstance(frame, bytes):
        scan(frame, limits.max_frame_bytes, limits.max_entries)
        try:
            frame = pb.Frame.FromString(frame)
        except DecodeError:
            raise BadRequest("not a frame: protobuf cannot read it") from None
    if len(frame.entries) > limits.max_entries:
        raise BadRequest(f"frame has {len(frame.entries)} entries, at most {limits.max_entries} are taken")
    return [_decode_entry(entry, limits) for entry in frame.entries]


# ---------------------------------------------------------------------------------------------------------- outwards


def _encode_entry(entry: Entry) -> pb.Entry:
    message = pb.Entry(session=entry.session, epoch=entry.epoch)
    match entry.body:
        case Chunk() as chunk:
            _fill_chunk(message.chunk, chunk)
        case Token() as token:
            message.token.step, message.token.position = token.step, token.position
            message.token.token_id = token.token_id
            if token.logprob is not None:
                message.token.logprob = token.logprob
            for token_id, logprob in token.top:
                message.token.top.add(token_id=token_id, logprob=logprob)
        case Done(step=step):
            message.done.SetInParent()
            message.done.step = step
        case Open() as opening:
            message.open.CopyFrom(_encode_open(opening))
        case Opened(position=position, lease_s=lease_s, max_chunk_tokens=max_chunk_tokens):
            message.opened.SetInParent()
            message.opened.position, message.opened.lease_ms = position, round(lease_s * 1000)
            message.opened.max_chunk_tokens = max_chunk_tokens
        case Advance():
            message.advance.SetInParent()
        case Close():
            message.close.SetInParent()
        case Hello(version=version, peer_id=peer_id, protocol=protocol):
            message.hello.CopyFrom(pb.Hello(protocol=protocol, version=version, peer_id=peer_id or ""))
        case Fault() as fault:
            message.fault.code, message.fault.message = int(fault.code), one_line(str(fault), MAX_MESSAGE)
            retry_after_s = fault.retry_after_s if isinstance(fault, Refused) else None
            if retry_after_s is not None:
                message.fault.retry_after_ms = math.ceil(min(max(retry_after_s, 0.0), MAX_WAIT_S) * 1000)
    return message


def _fill_chunk(message: pb.Chunk, chunk: Chunk) -> None:
    message.step, message.position, message.count = chunk.step, chunk.position, chunk.count
    message.want = int(chunk.want)  # pyright: ignore[reportAttributeAccessIssue]  # the stub knows no open enums
    if chunk.token_ids is not None:
        message.token_ids.extend(chunk.token_ids)
    if chunk.hidden is not None:
        hidden = chunk.hidden
        message.hidden.dtype = int(hidden.dtype)  # pyright: ignore[reportAttributeAccessIssue]
        message.hidden.rows, message.hidden.cols, message.hidden.data = hidden.rows, hidden.cols, hidden.data


def _encode_open(opening: Open) -> pb.Open:
    message = pb.Open(
        fingerprint=opening.fingerprint,
        profile=opening.profile,
        span=pb.SpanRange(start=opening.span.start, end=opening.span.end),
        max_tokens=opening.max_tokens,
        prompt_tokens=opening.prompt_tokens,
        wire=int(opening.wire),  # pyright: ignore[reportArgumentType]
        history=opening.history,
    )
    if opening.sampling is not None:
        params = opening.sampling
        message.sampling.CopyFrom(
            pb.Sampling(
                temperature=params.temperature,
                top_k=params.top_k,
                top_p=params.top_p,
                min_p=params.min_p,
                repetition_penalty=params.repetition_penalty,
                presence_penalty=params.presence_penalty,
                frequency_penalty=params.frequency_penalty,
                seed=params.seed,
                logprobs=params.logprobs,
            )
        )
    return message


# ----------------------------------------------------------------------------------------------------------- inwards


def _decode_entry(entry: pb.Entry, limits: Limits) -> Entry | Rejected:
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
    return Hello(_text("hello: version", hello.version), hello.peer_id or None, hello.protocol)


def _decode_open(entry: pb.Entry, limits: Limits) -> Open:
    opening = entry.open
    if not re.fullmatch("[0-9a-f]{32}", opening.fingerprint):
        raise BadRequest(f"open: fingerprint must be 32 hex digits, not {opening.fingerprint[:40]!r}")
    _within("open: end of the span", opening.span.end, 1, limits.max_blocks)
    _within("open: max_tokens", opening.max_tokens, 1, limits.max_tokens)
    _within("open: prompt_tokens", opening.prompt_tokens, 0, opening.max_tokens)
    _within("open: length of history", len(opening.history), 0, limits.max_history)
    return Open(
        fingerprint=opening.fingerprint,
        profile=_text("open: profile", opening.profile),
        span=Span(opening.span.start, opening.span.end),
        max_tokens=opening.max_tokens,
        prompt_tokens=opening.prompt_tokens,
        wire=_dtype(opening.wire),
        sampling=_decode_sampling(opening.sampling) if opening.HasField("sampling") else None,
        history=_token_ids(opening.history, limits),
    )


def _decode_sampling(sampling: pb.Sampling) -> SamplingParams:
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
    )


def _decode_opened(entry: pb.Entry, limits: Limits) -> Opened:
    opened = entry.opened
    _within("opened: position", opened.position, 0, limits.max_tokens)
    _within("opened: max_chunk_tokens", opened.max_chunk_tokens, 1, limits.max_tokens)
    return Opened(opened.position, _seconds("opened: lease", opened.lease_ms), opened.max_chunk_tokens)


def _decode_chunk(entry: pb.Entry, limits: Limits) -> Chunk:
    chunk = entry.chunk
    _within("chunk: count", chunk.count, 1, limits.max_chunk_tokens)
    _within("chunk: end", chunk.position + chunk.count, 1, limits.max_tokens)
    try:
        want = Want(chunk.want)
    except ValueError:
        raise BadRequest(f"chunk: unknown want {chunk.want}") from None
    if chunk.HasField("hidden") == bool(chunk.token_ids):
        raise BadRequest(f"chunk: expected token ids or hidden states, got {'both' if chunk.token_ids else 'neither'}")
    if chunk.HasField("hidden"):
        hidden = _decode_hidden(chunk.hidden, chunk.count, limits)
        return Chunk(chunk.step, chunk.position, chunk.count, want, hidden=hidden)
    if len(chunk.token_ids) != chunk.count:
        raise BadRequest(f"chunk: {len(chunk.token_ids)} token ids came for {chunk.count} positions")
    return Chunk(chunk.step, chunk.position, chunk.count, want, token_ids=_token_ids(chunk.token_ids, limits))


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
    return Token(token.step, token.position, token.token_id, logprob, top)


def _decode_fault(entry: pb.Entry, limits: Limits) -> Fault:
    message = one_line(entry.fault.message, MAX_MESSAGE)
    try:
        kind = FAULTS[FaultCode(entry.fault.code)]
    except ValueError:
        return Internal(f"fault of unknown code {entry.fault.code}: {message}")
    if kind is not Refused:
        return kind(message)
    patience = entry.fault.HasField("retry_after_ms")
    return Refused(message, min(entry.fault.retry_after_ms / 1000, MAX_WAIT_S) if patience else None)


_DECODERS: dict[str, Callable[[pb.Entry, Limits], Body]] = {
    "hello": _decode_hello,
    "open": _decode_open,
    "opened": _decode_opened,
    "chunk": _decode_chunk,
    "token": _decode_token,
    "done": lambda entry, limits: Done(entry.done.step),
    "advance": lambda entry, limits: Advance(),
    "close": lambda entry, limits: Close(),
    "fault": _decode_fault,
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


def _dtype(value: int) -> WireDType:
    try:
        return WireDType(value)
    except ValueError:
        raise BadRequest(f"unknown dtype {value}") from None


def _seconds(what: str, milliseconds: int) -> float:
    if milliseconds > MAX_WAIT_S * 1000:
        raise BadRequest(f"{what} is {milliseconds} ms, expected at most {MAX_WAIT_S:g} s")
    return milliseconds / 1000
