"""The runner: a Batch → tensors → the Blocks → answers. Runs on the compute thread; knows no Links and no books.

Seats may use different parts of this Peer's Span. The Batch walks from Block to Block, and at each Block the rows of
all Seats that use it go through together: a Seat joins where its part begins and leaves where it ends.

Numbers are checked where they come in and where they go out, for every Seat by itself: NaN or infinity faults the Seat
that brought it and, since no row depends on its neighbours, nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import structlog
import torch

from kernels.types import SeatRows
from model.sampler import TopK, draw
from model.span_model import SpanModel
from peer.scheduler import Work
from peer.seat import Answer, Seat
from proto.messages import Chunk, Done, Token, Want, WireDType
from proto.tensors import from_hidden, to_hidden
from swarm.errors import BadNumbers, Fault, Internal
from swarm.span import Span

log = structlog.get_logger("peer.runner")


@dataclass(slots=True)
class _Passage:
    """One work on its way through the Blocks. ``x`` is [count, hidden]."""

    seat: Seat
    chunk: Chunk
    rows: SeatRows
    x: torch.Tensor

    @property
    def span(self) -> Span:
        return self.seat.request.span


class Runner:
    def __init__(self, model: SpanModel):
        self._model = model

    @torch.inference_mode()
    def run(self, works: Sequence[Work[Seat]]) -> list[Answer | Fault]:
        """One answer or Fault for each work, in order. Writes the KV of their positions."""
        answers: list[Answer | Fault | None] = [None] * len(works)
        passages: dict[int, _Passage] = {}
        for index, work in enumerate(works):
            try:
                passages[index] = self._enter(work.seat, work.chunk)
            except Fault as fault:
                answers[index] = fault
        self._pass(list(passages.values()))
        wanted: list[int] = []
        for index, passage in passages.items():
            try:
                answer = _leave(passage)
            except Fault as fault:
                answer = fault
            if answer is None:
                wanted.append(index)
            answers[index] = answer
        for index, token in zip(wanted, self._draw([passages[index] for index in wanted]), strict=True):
            answers[index] = token
        assert None not in answers
        return [answer for answer in answers if answer is not None]

    def _enter(self, seat: Seat, chunk: Chunk) -> _Passage:
        if chunk.hidden is not None:
            x = from_hidden(chunk.hidden)
        else:
            assert chunk.token_ids is not None, "a Chunk holds one or the other"
            x = self._model.embed(chunk.token_ids)
        return _Passage(seat, chunk, SeatRows(seat.pages, chunk.position, chunk.count), x)

    def _pass(self, passages: Sequence[_Passage]) -> None:
        """Take every passage through the Blocks of its span, together where they share Blocks."""
        stops = sorted({block for p in passages for block in (p.span.start, p.span.end)})
        for start, end in pairwise(stops):
            here = [p for p in passages if p.span.start <= start and end <= p.span.end]
            if here:
                x = torch.cat([p.x for p in here]) if len(here) > 1 else here[0].x
                rounded = [p.seat.request.wire is WireDType.BF16 for p in here]
                y = self._model.run(Span(start, end), x, [p.rows for p in here], rounded)
                for passage, rows in zip(here, y.split([p.chunk.count for p in here]), strict=True):
                    passage.x = rows

    def _draw(self, passages: Sequence[_Passage]) -> list[Token | Fault]:
        """A Token after the last position of each."""
        if not passages:
            return []
        logits = self._model.logits(torch.cat([p.x[-1:] for p in passages]))  # [passages, vocab]
        return [_token(p, row, self._model.top_k) for p, row in zip(passages, logits, strict=True)]


def _leave(passage: _Passage) -> Answer | None:
    """The answer, or None where a Token is wanted. Raises BadNumbers."""
    if not bool(torch.isfinite(passage.x).all()):
        raise BadNumbers(f"activations of step {passage.chunk.step} are not finite after block {passage.span.end - 1}")
    chunk = passage.chunk
    if chunk.want is Want.NOTHING:
        return Done(chunk.step)
    if chunk.want is Want.TOKEN:
        return None
    hidden = to_hidden(passage.x, passage.seat.request.wire)
    return Chunk(chunk.step, chunk.position, chunk.count, chunk.want, hidden=hidden)


def _token(passage: _Passage, logits: torch.Tensor, top_k: TopK) -> Token | Fault:
    seat, chunk = passage.seat, passage.chunk
    params = seat.request.sampling
    assert params is not None, "admission lets no one want a Token without sampling parameters"
    position = chunk.position + chunk.count
    try:
        drawn = draw(logits, params, position, seat.history, seat.request.prompt_tokens, top_k)
    except Fault as fault:
        return fault
    except Exception as error:  # what its own parameters brought about is no affair of the other Seats
        log.exception("drawing failed", session=seat.session.hex()[:8], position=position)
        return Internal(f"this peer failed while drawing a token ({type(error).__name__}); use another")
    return Token(chunk.step, position, drawn.token_id, drawn.logprob, drawn.top)
