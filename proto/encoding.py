"""Values → messages. They are our own, hence not checked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from proto import shoal_pb2 as pb
from proto.limits import MAX_FAULT_LETTERS, MAX_WAIT_S
from proto.messages import (
    Advance,
    Chunk,
    Close,
    Done,
    Entry,
    Fork,
    Hello,
    Kept,
    Open,
    Opened,
    Path,
    Timing,
    Token,
    Trouble,
)
from swarm.errors import Fault, Refused
from swarm.sampling import SamplingParams
from swarm.text import one_line


def encode_entry(entry: Entry) -> pb.Entry:
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
            message.token.timings.extend(_encode_timings(token.timings))
        case Done(step=step, position=position):
            message.done.SetInParent()
            message.done.step, message.done.position = step, position
        case Open() as opening:
            message.open.CopyFrom(_encode_open(opening))
        case Opened() as opened:
            message.opened.SetInParent()
            message.opened.position, message.opened.lease_ms = opened.position, round(opened.lease_s * 1000)
            message.opened.max_chunk_tokens, message.opened.kept_from = opened.max_chunk_tokens, opened.kept_from
        case Path() as path:
            message.path.CopyFrom(_encode_path(path))
        case Fork(seat=seat, position=position, num_tokens=num_tokens, sampling=sampling):
            message.fork.seat, message.fork.position, message.fork.num_tokens = seat, position, num_tokens
            if sampling is not None:
                message.fork.sampling.CopyFrom(_encode_fork_sampling(sampling))
        case Kept(first=first, digests=digests):
            message.kept.SetInParent()
            message.kept.first = first
            message.kept.digests.extend(digests)
        case Trouble(peer_id=peer_id, fault=fault):
            message.trouble.peer_id = peer_id
            message.trouble.fault.CopyFrom(_encode_fault(fault))
        case Advance():
            message.advance.SetInParent()
        case Close():
            message.close.SetInParent()
        case Hello() as hello:
            message.hello.protocol, message.hello.version = hello.protocol, hello.version
            message.hello.peer_id, message.hello.client_id = hello.peer_id or "", hello.client_id or ""
        case Fault() as fault:
            message.fault.CopyFrom(_encode_fault(fault))
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
    message.drafts.extend(chunk.drafts)
    message.timings.extend(_encode_timings(chunk.timings))


def _encode_open(opening: Open) -> pb.Open:
    message = pb.Open(
        fingerprint=opening.fingerprint,
        profile=opening.profile,
        span=pb.SpanRange(start=opening.span.start, end=opening.span.end),
        max_tokens=opening.max_tokens,
        prompt_tokens=opening.prompt_tokens,
        wire=int(opening.wire),  # pyright: ignore[reportArgumentType]
        history=opening.history,
        embedded=opening.embedded,
        num_hops=opening.num_hops,
        stop_token_ids=opening.stop_token_ids,
        draft_tokens=opening.draft_tokens,
        prefix=opening.prefix,
        timing=opening.timing,
    )
    if opening.sampling is not None:
        message.sampling.CopyFrom(_encode_sampling(opening.sampling))
    return message


def _encode_sampling(params: SamplingParams) -> pb.Sampling:
    message = _encode_fork_sampling(params)
    message.bias_token_ids.extend(token_id for token_id, _ in params.logit_bias)
    message.biases.extend(bias for _, bias in params.logit_bias)
    message.end_token_ids.extend(params.end_token_ids)
    if params.grammar is not None:
        message.grammar.kind, message.grammar.text = int(params.grammar.kind), params.grammar.text
    return message


def _encode_fork_sampling(params: SamplingParams) -> pb.Sampling:
    """All but what is long, which the Seat has."""
    return pb.Sampling(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        seed=params.seed,
        logprobs=params.logprobs,
        min_tokens=params.min_tokens,
    )


def _encode_path(path: Path) -> pb.Path:
    message = pb.Path(
        position=path.position, next_position=path.next_position, num_tokens=path.num_tokens, step=path.step
    )
    for neighbour, field in ((path.next, message.next), (path.feed, message.feed)):
        if neighbour is not None:
            field.peer_id, field.address, field.seat = neighbour.peer_id, neighbour.address, neighbour.seat
            field.max_chunk_tokens = neighbour.max_chunk_tokens
    return message


def _encode_fault(fault: Fault) -> pb.Fault:
    message = pb.Fault(code=int(fault.code), message=one_line(str(fault), MAX_FAULT_LETTERS))
    retry_after_s = fault.retry_after_s if isinstance(fault, Refused) else None
    if retry_after_s is not None:
        message.retry_after_ms = math.ceil(min(max(retry_after_s, 0.0), MAX_WAIT_S) * 1000)
    return message


def _encode_timings(timings: Sequence[Timing]) -> list[pb.Timing]:
    return [
        pb.Timing(start=t.start, queue_us=_microseconds(t.queue_s), compute_us=_microseconds(t.compute_s))
        for t in timings
    ]


def _microseconds(seconds: float) -> int:
    return min(max(round(seconds * 1e6), 0), 2**32 - 1)
