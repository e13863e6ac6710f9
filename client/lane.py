"""Lane: a Session's Seat at one Hop, as the client sees it. Sends Chunks, believes no answer unchecked.

What a Hop may answer is exactly one entry of the wanted kind, with the same step, position and shape, and finite
numbers. Anything else is a Fault, raised here, and the Lane is then of no more use: its owner closes it and looks for
another Hop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from proto.messages import Advance, Body, Chunk, Close, Done, Entry, Hidden, Open, Opened, Token, Want, WireDType
from swarm.errors import BadNumbers, BadRequest, Fault, Timeout
from swarm.peerinfo import PeerInfo
from swarm.route import Hop
from swarm.span import Span

Answer = Chunk | Token | Done

BUSY_FACTOR = 4.0  # times what a busy peer needs by its own figures
LONGEST_BUSY_S = 1800.0  # whatever it claims


class Talk(Protocol):
    """The part of ``proto.link.Conversation`` that is used."""

    def send(self, epoch: int, body: Body) -> None: ...

    async def receive(self, timeout_s: float) -> Entry:
        """Nothing of an epoch below the highest one sent. Raises the peer's Fault."""
        ...

    def close(self) -> None: ...


class Line(Protocol):
    """The part of ``proto.link.Link`` that is used."""

    def conversation(self, session: bytes) -> Talk: ...


class Lines(Protocol):
    """What ``client.links.Links`` offers to Sessions."""

    async def get(self, peer: PeerInfo) -> Line:
        """A live Link to ``peer``, shared by all Sessions. Raises a Fault."""
        ...

    async def responsive(self, peer: PeerInfo) -> PeerInfo | None:
        """What ``peer`` says of itself now; None when it does not answer, so that a late step means frozen."""
        ...


@dataclass(frozen=True, slots=True)
class Shape:
    """What answers have to look like."""

    hidden_size: int
    vocab_size: int
    wire: WireDType


class Lane:
    """``position`` is the next one that the Seat takes; ``last_step`` is -1 before the first."""

    def __init__(self, hop: Hop, talk: Talk, lines: Lines, shape: Shape, epoch: int):
        self.hop = hop
        self.position = 0
        self.last_step = -1
        self.max_chunk_tokens = 1
        self._talk, self._lines, self._shape, self._epoch = talk, lines, shape, epoch

    @property
    def span(self) -> Span:
        return self.hop.span

    @classmethod
    async def open(
        cls,
        lines: Lines,
        hop: Hop,
        seat: bytes,
        epoch: int,
        request: Open,
        shape: Shape,
        *,
        max_chunk_tokens: int,
        timeout_s: float,
    ) -> Lane:
        """Take a Seat. Raises the peer's Fault, or one for its silence; no Seat is left behind then."""
        line = await lines.get(hop.peer)
        lane = cls(hop, line.conversation(seat), lines, shape, epoch)
        try:
            await lane._agree(request, timeout_s)
        except BaseException:
            lane.close()
            raise
        lane.max_chunk_tokens = min(max_chunk_tokens, lane.max_chunk_tokens)
        return lane

    async def advance(self, epoch: int, timeout_s: float) -> None:
        """Raise the Seat's epoch, so that nothing older can write to it. Also proves that the Seat is still there."""
        self._epoch = epoch
        await self._agree(Advance(), timeout_s)

    async def take(self, chunk: Chunk, timeout_s: float, busy_timeout_s: float) -> Answer:
        """Send ``chunk`` and return its answer. Raises a Fault.

        A peer that is late but still answers Info is busy: it gets ``busy_timeout_s`` in all, or several times what it
        needs for its queue and ``chunk`` by its own figures. One that does not answer is frozen.
        """
        self._talk.send(self._epoch, chunk)
        waited, allowed = 0.0, busy_timeout_s
        while True:
            try:
                entry = await self._receive(timeout_s)
                break
            except Timeout:
                waited += timeout_s
                info = await self._lines.responsive(self.hop.peer)
                if info is None:
                    raise
                tokens = info.queue_tokens + chunk.count
                # Its speed as announced before it was chosen: slowness claimed only when late excuses nothing.
                block_s = min(info.block_s, self.hop.peer.block_s)
                claimed = BUSY_FACTOR * block_s * len(self.span) * tokens
                allowed = max(allowed, min(claimed, LONGEST_BUSY_S))  # the queue only shrinks while it works
                if waited >= allowed:
                    raise
        answer = self._checked(chunk, entry.body)
        self.position += chunk.count
        self.last_step = chunk.step
        return answer

    def close(self) -> None:
        """Give the Seat back. Never waits and never fails; twice is once."""
        try:
            self._talk.send(self._epoch, Close())
        except Fault:
            pass  # the Link is gone, and with it the Seat
        self._talk.close()

    async def _agree(self, request: Open | Advance, timeout_s: float) -> None:
        """Open and Advance are both answered by Opened, with the position we know."""
        self._talk.send(self._epoch, request)
        body = (await self._receive(timeout_s)).body
        if not isinstance(body, Opened):
            raise self._broken(f"{type(request).__name__} with {type(body).__name__}")
        if body.position != self.position or body.max_chunk_tokens < 1:
            raise self._broken(
                f"{type(request).__name__} with position {body.position} and chunks of {body.max_chunk_tokens} tokens, "
                f"expected position {self.position}"
            )
        self.max_chunk_tokens = body.max_chunk_tokens if isinstance(request, Open) else self.max_chunk_tokens

    async def _receive(self, timeout_s: float) -> Entry:
        entry = await self._talk.receive(timeout_s)
        if entry.epoch > self._epoch:
            raise self._broken(f"in epoch {entry.epoch}, expected {self._epoch}")
        return entry

    def _checked(self, chunk: Chunk, body: Body) -> Answer:
        end = chunk.position + chunk.count
        match chunk.want, body:
            case Want.NOTHING, Done(step=chunk.step):
                return body
            case Want.HIDDEN, Chunk(
                step=chunk.step, position=chunk.position, count=chunk.count, hidden=Hidden() as hidden
            ):
                self._check_hidden(hidden, chunk.count)
                return body
            case Want.TOKEN, Token(step=chunk.step, position=position) if position == end:
                if not 0 <= body.token_id < self._shape.vocab_size:
                    raise self._broken(f"token {body.token_id}, expected one of {self._shape.vocab_size}")
                return body
            case _:
                raise self._broken(
                    f"step {chunk.step}, positions {chunk.position}:{end}, want {chunk.want.name}, with {_sketch(body)}"
                )

    def _check_hidden(self, hidden: Hidden, rows: int) -> None:
        shape = self._shape
        expected = (shape.wire, rows, shape.hidden_size, rows * shape.hidden_size * shape.wire.itemsize)
        if (hidden.dtype, hidden.rows, hidden.cols, len(hidden.data)) != expected:
            raise self._broken(
                f"hidden states {hidden.dtype.name} [{hidden.rows}, {hidden.cols}] in {len(hidden.data)} bytes, "
                f"expected {shape.wire.name} [{rows}, {shape.hidden_size}]"
            )
        if not _finite(hidden):
            raise BadNumbers(f"{self.hop} answered with NaN or infinity")

    def _broken(self, what: str) -> BadRequest:
        return BadRequest(f"{self.hop} answered {what}")


def _finite(hidden: Hidden) -> bool:
    """Whether every number is finite, by its exponent bits. So the next Hop is not blamed for this one's NaN."""
    if hidden.dtype is WireDType.BF16:
        words, exponent = np.frombuffer(hidden.data, "<u2"), 0x7F80
    else:
        words, exponent = np.frombuffer(hidden.data, "<u4"), 0x7F800000
    return not bool(((words & exponent) == exponent).any())


def _sketch(body: Body) -> str:
    match body:
        case Chunk():
            return f"Chunk of step {body.step}, positions {body.position}:{body.position + body.count}"
        case Token():
            return f"Token of step {body.step} for position {body.position}"
        case Done():
            return f"Done of step {body.step}"
        case _:
            return type(body).__name__
