"""Lane: a Session's Seat at one Hop, as the client sees it. Believes no answer unchecked.

Open and Advance are agreed on here, one at a time; everything else that the Hop says goes to the Session's Mailbox.
What is of an older epoch is dropped. What cannot be an answer is a Fault, and the Lane is then of no more use: its
owner closes it and looks for another Hop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from client.mailbox import Mailbox
from proto.limits import PAGE_TOKENS
from proto.link import Ear
from proto.messages import Advance, Body, Close, Entry, Fork, Hidden, Neighbour, Open, Opened, Token, WireDType
from swarm.errors import BadNumbers, BadRequest, Fault, Timeout
from swarm.peerinfo import PeerInfo
from swarm.route import Hop
from swarm.span import Span


class Line(Protocol):
    """The part of ``proto.link.Link`` that is used."""

    def attach(self, session: bytes, ear: Ear) -> None: ...

    def detach(self, session: bytes) -> None: ...

    def send(self, entry: Entry) -> None: ...


class Lines(Protocol):
    """What ``client.links.Links`` offers to Sessions."""

    async def get(self, peer: PeerInfo) -> Line:
        """A live Link to ``peer``, shared by all Sessions. Raises a Fault."""
        ...

    async def responsive(self, peer: PeerInfo) -> PeerInfo | None:
        """What ``peer`` says of itself now; None when it does not answer, so that silence means frozen."""
        ...

    def apart(self, one: PeerInfo, other: PeerInfo) -> bool:
        """Whether ``one`` was lately found not to reach ``other``."""
        ...

    def set_apart(self, one: PeerInfo, other: PeerInfo) -> None: ...


@dataclass(frozen=True, slots=True)
class Shape:
    """What answers have to look like."""

    hidden_size: int
    vocab_size: int
    wire: WireDType


class Lane:
    """``position`` and ``kept_from`` are those of the last agreement."""

    def __init__(self, hop: Hop, seat: bytes, line: Line, mailbox: Mailbox, shape: Shape, epoch: int):
        self.hop = hop
        self.seat = seat
        self.position = self.kept_from = 0
        self.max_chunk_tokens = 1
        self._line, self._mailbox, self._shape, self._epoch = line, mailbox, shape, epoch
        self._agreement: asyncio.Future[Opened] | None = None
        self._over = False

    @property
    def span(self) -> Span:
        return self.hop.span

    @property
    def neighbour(self) -> Neighbour:
        """The Seat as others are told of it."""
        peer = self.hop.peer
        return Neighbour(peer.peer_id, peer.address, self.seat, self.max_chunk_tokens)

    @classmethod
    async def open(
        cls, lines: Lines, hop: Hop, seat: bytes, epoch: int, request: Open, shape: Shape, mailbox: Mailbox,
        *, max_chunk_tokens: int, timeout_s: float,
    ) -> Lane:  # fmt: skip
        """Take a Seat. Raises the peer's Fault, or one for its silence; no Seat is left behind then."""
        lane = cls(hop, seat, await lines.get(hop.peer), mailbox, shape, epoch)
        lane._line.attach(seat, lane)
        try:
            opened = await lane._agree(request, timeout_s)
            if opened.max_chunk_tokens < 1 or opened.position > len(request.prefix) * PAGE_TOKENS:
                raise lane.broken(f"position {opened.position} and chunks of {opened.max_chunk_tokens} tokens")
        except BaseException:
            lane.close()
            raise
        lane.max_chunk_tokens = min(max_chunk_tokens, opened.max_chunk_tokens)
        return lane

    async def fork(self, seat: bytes, request: Fork, mailbox: Mailbox, timeout_s: float) -> Lane:
        """A second Seat at the same Hop, which begins as this one did. Raises a Fault."""
        lane = Lane(self.hop, seat, self._line, mailbox, self._shape, self._epoch)
        lane.max_chunk_tokens = self.max_chunk_tokens
        lane._line.attach(seat, lane)
        try:
            opened = await lane._agree(request, timeout_s, self.seat)
            if opened.position > request.position:
                raise lane.broken(f"a fork with position {opened.position}, expected up to {request.position}")
        except BaseException:
            lane.close()
            raise
        return lane

    async def advance(self, epoch: int, timeout_s: float) -> None:
        """Raise the Seat's epoch, so that nothing older can write to it, and learn how far it is."""
        self._epoch = epoch
        await self._agree(Advance(), timeout_s)

    def send(self, body: Body) -> None:
        """Queue an entry for the Seat. Raises DeadLink, Overflow."""
        self._line.send(Entry(self.seat, self._epoch, body))

    def close(self) -> None:
        """Give the Seat back. Never waits and never fails; twice is once."""
        if self._over:
            return
        self._over = True
        try:
            self.send(Close())
        except Fault:
            pass  # the Link is gone, and with it the Seat
        self._line.detach(self.seat)
        self._mailbox.drop(self)

    def hear(self, entry: Entry) -> None:
        """The Link: an entry came."""
        if self._over or entry.epoch < self._epoch:
            return
        if entry.epoch > self._epoch:
            self.fail(self.broken(f"in epoch {entry.epoch}, expected {self._epoch}"))
        elif isinstance(entry.body, Fault):
            self.fail(entry.body)
        elif self._agreement is None:
            self._mailbox.put(self, entry)
        elif isinstance(entry.body, Opened):
            if not self._agreement.done():
                self._agreement.set_result(entry.body)
        else:
            self.fail(self.broken(f"with {type(entry.body).__name__}, Opened was expected"))

    def fail(self, fault: Fault) -> None:
        """The Link, or a Fault: nothing more will come."""
        if self._over:
            return
        if self._agreement is None:
            self._mailbox.put(self, fault)
        elif not self._agreement.done():
            self._agreement.set_exception(fault)

    def check_token(self, token: Token, position: int) -> None:
        """Raises BadRequest for what cannot be the token at ``position``."""
        if token.position != position or not 0 <= token.token_id < self._shape.vocab_size:
            raise self.broken(
                f"token {token.token_id} at position {token.position}, "
                f"expected one of {self._shape.vocab_size} at position {position}"
            )

    def check_hidden(self, hidden: Hidden | None, rows: int, position: int, expected_position: int) -> Hidden:
        """The hidden states of a Chunk. Raises BadRequest, BadNumbers."""
        shape = self._shape
        expected = (shape.wire, rows, shape.hidden_size, rows * shape.hidden_size * shape.wire.itemsize)
        if hidden is None or position != expected_position:
            raise self.broken(f"a chunk from position {position}, expected hidden states from {expected_position}")
        if (hidden.dtype, hidden.rows, hidden.cols, len(hidden.data)) != expected:
            raise self.broken(
                f"hidden states {hidden.dtype.name} [{hidden.rows}, {hidden.cols}] in {len(hidden.data)} bytes, "
                f"expected {shape.wire.name} [{rows}, {shape.hidden_size}]"
            )
        if not _finite(hidden):
            raise BadNumbers(f"{self.hop} answered with NaN or infinity")
        return hidden

    def broken(self, what: str) -> BadRequest:
        return BadRequest(f"{self.hop} answered {what}")

    async def _agree(self, request: Open | Advance | Fork, timeout_s: float, seat: bytes | None = None) -> Opened:
        self._agreement = asyncio.get_running_loop().create_future()
        try:
            self._line.send(Entry(seat or self.seat, self._epoch, request))
            async with asyncio.timeout(timeout_s):
                opened = await self._agreement
        except TimeoutError:
            raise Timeout(f"{self.hop} did not answer within {timeout_s:g} s") from None
        finally:
            if self._agreement.done() and not self._agreement.cancelled():
                self._agreement.exception()  # heard
            self._agreement = None
        self.position, self.kept_from = opened.position, min(opened.kept_from, opened.position)
        return opened


def _finite(hidden: Hidden) -> bool:
    """Whether every number is finite, by its exponent bits. So the next Hop is not blamed for this one's NaN."""
    if hidden.dtype is WireDType.BF16:
        words, exponent = np.frombuffer(hidden.data, "<u2"), 0x7F80
    else:
        words, exponent = np.frombuffer(hidden.data, "<u4"), 0x7F800000
    return not bool(((words & exponent) == exponent).any())
