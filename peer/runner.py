"""The runner: a Batch → tensors → the Blocks → answers. Runs on the compute thread; knows no Links and no books.

A Hop before the end of the model answers with hidden states, whatever is wanted at the end. The last one answers with
the Tokens that were drawn, or with hidden states where the Head is the client's.

Drafts are verified as they are computed: a Token is drawn after the last position that is certain, and as long as the
Token drawn is the draft at its place, another after that one. A draw is a function of the logits, the seed, the
position and the tokens before it, so what comes out are the bits of one step after the other.

Seats may use different parts of this Peer's Span. The Batch walks from Block to Block, and at each Block the rows of
all Seats that use it go through together: a Seat joins where its part begins and leaves where it ends.

Numbers are checked where they come in and where they go out, for every Seat by itself: NaN or infinity faults the Seat
that brought it and, since no row depends on its neighbours, nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import structlog
import torch

from kernels.types import SeatRows
from model.constraint import Constraints
from model.sampler import draw_along
from model.span_model import SpanModel
from peer.scheduler import Work
from peer.seat import Answer, Seat
from proto.messages import Chunk, Token, Want, WireDType
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
    def __init__(self, model: SpanModel, constraints: Constraints | None = None):
        """``constraints`` knows what grammars allow; without it whoever has one gets a Fault."""
        self._model, self._constraints = model, constraints

    def copy_page(self, source: int, target: int) -> None:
        """Before two Seats that share a Page go different ways."""
        self._model.kv.copy_page(source, target)

    def read_pages(self, pages: Sequence[int]) -> memoryview:
        """What a Seat that is swapped out takes along."""
        return self._model.kv.read_pages(pages)

    def write_pages(self, pages: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        """Put it back, be it into other Pages."""
        self._model.kv.write_pages(pages, data)

    @torch.inference_mode()
    def run(self, works: Sequence[Work[Seat]]) -> list[Answer | Fault]:
        """One answer or Fault for each work, in order. Writes the KV of their positions."""
        answers: list[Answer | Fault | None] = [None] * len(works)
        passages: dict[int, _Passage] = {}
        for index, work in enumerate(works):
            try:
                passages[index] = self._enter(work)
            except Fault as fault:
                answers[index] = fault
        self._pass(list(passages.values()))
        wanted: list[int] = []
        for index, passage in passages.items():
            try:
                answer = self._leave(passage)
            except Fault as fault:
                answer = fault
            if answer is None:
                wanted.append(index)
            answers[index] = answer
        for index, drawn in zip(wanted, self._draw([passages[index] for index in wanted]), strict=True):
            answers[index] = drawn
        assert None not in answers
        return [answer for answer in answers if answer is not None]

    def _enter(self, work: Work[Seat]) -> _Passage:
        chunk = work.chunk
        if chunk.hidden is not None:
            x = from_hidden(chunk.hidden)
        else:
            assert chunk.token_ids is not None, "a Chunk holds one or the other"
            x = self._model.embed(chunk.token_ids)
        return _Passage(work.seat, chunk, SeatRows(work.pages, chunk.position, chunk.count), x)

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

    def _leave(self, passage: _Passage) -> Answer | None:
        """The answer, or None where Tokens are to be drawn. Raises BadNumbers."""
        chunk = passage.chunk
        if not bool(torch.isfinite(passage.x).all()):
            raise BadNumbers(f"activations of step {chunk.step} are not finite after block {passage.span.end - 1}")
        if passage.span.end < self._model.config.num_blocks or chunk.want is Want.HIDDEN:
            return replace(chunk, token_ids=None, hidden=to_hidden(passage.x, passage.seat.request.wire))
        return () if chunk.want is Want.NOTHING else None

    def _draw(self, passages: Sequence[_Passage]) -> list[Answer | Fault]:
        """The Tokens after the last position of each, and after its drafts as far as they hold."""
        if not passages:
            return []
        counts = [1 + len(p.chunk.drafts) for p in passages]
        rows = [p.x[-count:] for p, count in zip(passages, counts, strict=True)]
        logits = self._model.logits(torch.cat(rows))  # [sum(counts), vocab]
        return [self._tokens(p, part) for p, part in zip(passages, logits.split(counts), strict=True)]

    def _tokens(self, passage: _Passage, logits: torch.Tensor) -> Answer | Fault:
        """``logits`` is [1 + drafts, vocab]."""
        seat, chunk = passage.seat, passage.chunk
        params, prompt_tokens = seat.request.sampling, seat.request.prompt_tokens
        assert params is not None, "admission lets no one want a Token without sampling parameters"
        first = chunk.end - len(chunk.drafts)
        masks = None
        if params.grammar is not None and self._constraints is not None:
            masks = self._constraints.masks(seat.session)
        try:
            drawn = draw_along(
                logits, params, first, seat.history, prompt_tokens, chunk.drafts, self._model.top_k, masks
            )
        except Fault as fault:
            return fault
        except Exception as error:  # what its own parameters brought about is no affair of the other Seats
            log.exception("drawing failed", session=seat.session.hex()[:8], position=first)
            return Internal(f"this peer failed while drawing a token ({type(error).__name__}); use another")
        return tuple(
            Token(chunk.step, position, one.token_id, one.logprob, one.top) for position, one in enumerate(drawn, first)
        )
