"""A model of hashes, which stands for kernels where a test is about tokens: real scheduler, Pages and engine around it.

A Block turns a row into a digest of everything before it at this Seat, so a token depends on every position at every
Block, and one wrong, missing or doubled row anywhere changes every token after it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import ParamSpec, TypeVar

from peer.desk import Desk
from peer.engine import Engine
from peer.scheduler import Batch, Scheduler, Work
from peer.seat import Answer, Seat
from proto.messages import Chunk, Hidden, Token, Want, WireDType
from swarm.clock import Clock
from swarm.errors import BadNumbers, Fault
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.sampling import SamplingParams
from swarm.span import Span

P = ParamSpec("P")
T = TypeVar("T")

BLOCKS = 6
HIDDEN, VOCAB = 4, 1000
ROW_BYTES, SLOT_BYTES = 4 * HIDDEN, 32 * BLOCKS
MODEL = ModelRef("hashes", "ab" * 16, BLOCKS)


def hash_peer(number: int, start: int, end: int, *, kv_tokens: int = 8000, expires_at: float = 1e9) -> PeerInfo:
    """What a Peer of this model announces."""
    return PeerInfo(
        peer_id=f"{number:032x}", instance=1, model=MODEL, span=Span(start, end), address=f"10.0.0.{number}:1",
        profile="c8", state=PeerState.READY, version="0", kv_tokens=kv_tokens, kv_tokens_free=kv_tokens,
        sessions=0, queue_tokens=0, block_s=0.001, expires_at=expires_at,
    )  # fmt: skip


def row_of(digest: bytes) -> bytes:
    """Four finite floats from a digest."""
    return struct.pack("<4f", *(int.from_bytes(digest[3 * i : 3 * i + 3], "little") for i in range(HIDDEN)))


class HashRunner:
    """Stands for ``peer.runner.Runner``: in a Page's slot lies, for every Block, the digest of all positions so far.

    ``answers_left`` counts down to the answer that is a Fault, as are all that follow; None: never.
    """

    def __init__(self, num_pages: int, page_size: int, vocab: int = VOCAB):
        self.answers_left: int | None = None
        self._page_size, self._vocab = page_size, vocab
        self._pages = [bytearray(page_size * SLOT_BYTES) for _ in range(num_pages)]

    def run(self, works: Sequence[Work[Seat]]) -> list[Answer | Fault]:
        return [self._answer(work) for work in works]

    def copy_page(self, source: int, target: int) -> None:
        self._pages[target][:] = self._pages[source]

    def read_pages(self, pages: Sequence[int]) -> memoryview:
        return memoryview(b"".join(self._pages[page] for page in pages))

    def write_pages(self, pages: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        size = self._page_size * SLOT_BYTES
        for index, page in enumerate(pages):
            self._pages[page][:] = data[index * size : (index + 1) * size]

    def _answer(self, work: Work[Seat]) -> Answer | Fault:
        if self.answers_left is not None:
            if self.answers_left == 0:
                return BadNumbers("no numbers came out")
            self.answers_left -= 1
        seat, chunk = work.seat, work.chunk
        rows = self._compute(seat.request.span, chunk, work.pages)
        if not seat.at_end or chunk.want is Want.HIDDEN:
            hidden = Hidden(WireDType.F32, len(rows), HIDDEN, b"".join(rows))
            return replace(chunk, token_ids=None, hidden=hidden)
        if chunk.want is Want.NOTHING:
            return ()
        return tuple(self._tokens(seat, chunk, rows))

    def _compute(self, span: Span, chunk: Chunk, pages: Sequence[int]) -> list[bytes]:
        """The output rows."""
        now = self._slot(chunk.position - 1, pages) if chunk.position else {b: b"%d" % b for b in span}
        rows: list[bytes] = []
        for i in range(chunk.count):
            if chunk.token_ids is not None:
                row = row_of(hashlib.sha256(b"embed%d" % chunk.token_ids[i]).digest())
            else:
                assert chunk.hidden is not None
                row = chunk.hidden.data[ROW_BYTES * i : ROW_BYTES * (i + 1)]
            now, row = through(now, span, row)
            page, begin = self._place(chunk.position + i, pages)
            page[begin : begin + SLOT_BYTES] = b"".join(now.get(b, bytes(32)) for b in range(BLOCKS))
            rows.append(row)
        return rows

    def _slot(self, position: int, pages: Sequence[int]) -> dict[int, bytes]:
        page, begin = self._place(position, pages)
        return {b: bytes(page[begin + 32 * b : begin + 32 * (b + 1)]) for b in range(BLOCKS)}

    def _place(self, position: int, pages: Sequence[int]) -> tuple[bytearray, int]:
        return self._pages[pages[position // self._page_size]], position % self._page_size * SLOT_BYTES

    def _tokens(self, seat: Seat, chunk: Chunk, rows: Sequence[bytes]) -> Iterator[Token]:
        """One, and one more for each draft that is what was drawn."""
        sampling = seat.request.sampling
        assert sampling is not None
        history, first = list(seat.history), chunk.count - len(chunk.drafts)
        for index, row in enumerate(rows[first - 1 :]):
            position = chunk.position + first + index
            if sampling.needs_history:
                assert len(history) == position, f"{len(history)} tokens of history at position {position}"
            history.append(draw(row, position, sampling, history, self._vocab))
            logprob, top = logprobs_of(row, sampling.logprobs, history[-1], self._vocab)
            yield Token(chunk.step, position, history[-1], logprob, top)
            if index >= len(chunk.drafts) or history[-1] != chunk.drafts[index]:
                return


class HashEngine(Engine):
    """On the event loop instead of a thread. A Batch takes ``step_s``, and ``awake`` is awaited before it is done."""

    def __init__(self, clock: Clock, *, step_s: float = 0.0, awake: Callable[[], Awaitable[None]] | None = None):
        super().__init__(_Scheduler(prefill_tokens=16, max_decodes=64), clock)
        self.step_s, self._awake = step_s, awake

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.sleep(self.step_s)
        if self._awake is not None:
            await self._awake()
        return function(*args, **kwargs)

    async def pump(self, runner: HashRunner, desk: Desk) -> None:
        """Compute for ever."""
        async for outputs in self.outputs(runner, desk.seats.house):
            desk.deliver(outputs)


class _Scheduler(Scheduler[Seat]):
    def observe(self, batch: Batch[Seat], seconds: float) -> None:
        super().observe(batch, max(seconds, 1e-3))  # nothing takes no time


def through(before: dict[int, bytes], span: Span, row: bytes) -> tuple[dict[int, bytes], bytes]:
    """One position through the Blocks of ``span``: their digests after it, and the row that comes out."""
    now: dict[int, bytes] = {}
    for block in span:
        now[block] = hashlib.sha256(before[block] + row).digest()
        row = row_of(now[block])
    return now, row


def logprobs_of(
    row: bytes, wanted: int | None, token_id: int, vocab: int
) -> tuple[float | None, tuple[tuple[int, float], ...]]:
    """Of the token that was drawn, and of the ``wanted`` most likely ones, from ``row`` alone."""
    if wanted is None:
        return None, ()
    weights = [1 + int.from_bytes(hashlib.sha256(row + b"%d" % one).digest()[:4], "little") for one in range(vocab)]
    total = sum(weights)
    every = [math.log(weight / total) for weight in weights]
    order = sorted(range(vocab), key=lambda one: (-every[one], one))[:wanted]
    return every[token_id], tuple((one, every[one]) for one in order)


def draw(row: bytes, position: int, sampling: SamplingParams, history: Sequence[int], vocab: int) -> int:
    """The token at ``position``: it depends on all before it, on the seed and, with penalties, on the history."""
    seen = tuple(history) if sampling.needs_history else ()
    salt = repr((sampling.seed if not sampling.greedy else None, position, seen)).encode()
    return int.from_bytes(hashlib.sha256(row + salt).digest()[:4], "little") % vocab


def undisturbed(
    prompt: Sequence[int], new: int, sampling: SamplingParams | None = None, vocab: int = VOCAB
) -> list[int]:
    """What the model says, without any swarm."""
    span, history = Span(0, BLOCKS), list(prompt)
    state = {b: b"%d" % b for b in span}
    for position in range(len(prompt) + new - 1):
        embedding = row_of(hashlib.sha256(b"embed%d" % history[position]).digest())
        state, row = through(state, span, embedding)
        if position + 1 == len(history):
            history.append(draw(row, position + 1, sampling or SamplingParams(), history, vocab))
    return history[len(prompt) :]


@cache
def rows_after(text: tuple[int, ...]) -> tuple[bytes, ...]:
    """What the whole model makes of every position."""
    if not text:
        return ()
    state = _state(text[:-1])
    return (*rows_after(text[:-1]), through(dict(state), Span(0, BLOCKS), _embedded(text[-1]))[1])


@cache
def _state(text: tuple[int, ...]) -> tuple[tuple[int, bytes], ...]:
    if not text:
        return tuple((block, b"%d" % block) for block in Span(0, BLOCKS))
    return tuple(through(dict(_state(text[:-1])), Span(0, BLOCKS), _embedded(text[-1]))[0].items())


def _embedded(token_id: int) -> bytes:
    return row_of(hashlib.sha256(b"embed%d" % token_id).digest())
