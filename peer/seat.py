"""Seat: a Session's place at this Peer. Decides what a Chunk may do to it; knows no I/O, no tensors, no other Seat.

    admit(epoch, chunk)                                  the Seat then
    ├── epoch below the Seat's      StaleEpoch           is unchanged
    ├── the last step, same bytes   Repeat(reply)        takes the epoch; no reply while it is being computed
    ├── a step not above the last,
    │   other bytes, or a gap       OutOfOrder           is unchanged
    ├── more than was opened        BadRequest, Overflow is unchanged
    └── the next position           Accept               takes epoch, step and position; the engine gets the Chunk

``position`` counts what was accepted, so Chunks may be sent ahead of their answers. Each asking for a step is answered
once: the Seat remembers with which epoch a step was asked last, and an answer nobody of the present epoch asked for is
kept, not sent. A Seat whose step fails is closed by its owner, hence nothing is ever rolled back.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from proto.messages import Body, Chunk, Done, Entry, Open, Opened, Token, Want
from swarm.errors import BadRequest, Fault, OutOfOrder, Overflow, StaleEpoch

MAX_WAITING = 64  # Chunks of one Seat between acceptance and answer

Answer = Chunk | Token | Done


@dataclass(frozen=True, slots=True)
class Accept:
    """The Chunk is new; it must be computed now."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """The Chunk was taken before. ``reply`` is None while the engine still has it: the one answer will follow."""

    reply: Answer | None


Verdict = Accept | Repeat | Fault


class Seat:
    """Owned by the Link ``link``. ``pages`` hold the KV of positions 0 … request.max_tokens-1 in order."""

    __slots__ = (
        "_asked", "_last", "_reply", "epoch", "expires_at", "history", "lease_s", "link",
        "max_chunk_tokens", "pages", "position", "request", "session",
    )  # fmt: skip

    def __init__(
        self, session: bytes, epoch: int, link: Hashable, request: Open, pages: tuple[int, ...],
        *, max_chunk_tokens: int, lease_s: float, now: float,
    ):  # fmt: skip
        self.session = session
        self.epoch = epoch
        self.link = link
        self.request = request
        self.pages = pages
        self.max_chunk_tokens = max_chunk_tokens
        self.lease_s = lease_s
        self.position = 0  # the next one to be taken
        self.history = list(request.history)  # grows with what is sampled here, where sampling needs it
        self._last: Chunk | None = None
        self._reply: Answer | None = None  # to ``_last``, once computed
        self._asked: dict[int, int] = {}  # step → epoch, of the Chunks that the engine has
        self.renew(now)

    def renew(self, now: float) -> None:
        self.expires_at = now + self.lease_s

    def expired(self, now: float) -> bool:
        """Whether no step came for a lease; a Seat with a Chunk in the engine waits for us, not we for it."""
        return not self._asked and now >= self.expires_at

    def opened(self) -> Opened:
        return Opened(self.position, self.lease_s, self.max_chunk_tokens)

    def advance(self, epoch: int) -> None:
        """Raise the epoch. Raises StaleEpoch for a lower one."""
        if epoch < self.epoch:
            raise self._stale(epoch)
        self.epoch = epoch

    def admit(self, epoch: int, chunk: Chunk) -> Verdict:
        """Judge a Chunk and, with Accept, take it. See the table at the top of the file."""
        if epoch < self.epoch:
            return self._stale(epoch)
        last = self._last
        if last is not None and chunk.step <= last.step:
            # The Chunk itself is kept, not a digest: comparing is exact and cheaper, and its reply is as large.
            if chunk != last:
                what = f"other content for step {chunk.step}" if chunk.step == last.step else f"step {chunk.step}"
                return OutOfOrder(f"{what} came after step {last.step} was taken")
            self.epoch = epoch
            if last.step in self._asked:
                self._asked[last.step] = epoch
            return Repeat(self._reply)
        if chunk.position != self.position:
            return OutOfOrder(f"chunk starts at {chunk.position}, seat is at {self.position}")
        refusal = self._refusal(chunk)
        if refusal is not None:
            return refusal
        self.epoch = epoch
        self.position += chunk.count
        self._last, self._reply = chunk, None
        self._asked[chunk.step] = epoch
        return Accept()

    def finish(self, chunk: Chunk, answer: Answer) -> Entry | None:
        """Take in the answer to an accepted Chunk. Returns what to send, or None where the asker was fenced off."""
        asked = self._asked.pop(chunk.step)
        if self._last is chunk:
            self._reply = answer
        if isinstance(answer, Token) and self.request.sampling is not None and self.request.sampling.needs_history:
            self.history.append(answer.token_id)
        return Entry(self.session, asked, answer) if asked >= self.epoch else None

    def entry(self, body: Body) -> Entry:
        return Entry(self.session, self.epoch, body)

    def _stale(self, epoch: int) -> StaleEpoch:
        return StaleEpoch(f"message of epoch {epoch}, seat is at epoch {self.epoch}")

    def _refusal(self, chunk: Chunk) -> Fault | None:
        """What of a Chunk contradicts the Open. Sizes against each other were checked when the frame was read."""
        request, end = self.request, chunk.position + chunk.count
        if chunk.count < 1 or chunk.count > self.max_chunk_tokens:
            return BadRequest(f"chunk of {chunk.count} tokens, expected 1 to {self.max_chunk_tokens}")
        if end > request.max_tokens:
            return BadRequest(f"chunk ends at {end}, seat was opened for {request.max_tokens} tokens")
        if len(self._asked) >= MAX_WAITING:
            return Overflow(f"{len(self._asked)} chunks are waiting, expected no more than {MAX_WAITING}")
        if chunk.want is Want.TOKEN and request.sampling is None:
            return BadRequest("a token is wanted, but the seat was opened without sampling parameters")
        if request.span.start == 0:
            if chunk.token_ids is None or len(chunk.token_ids) != chunk.count:
                return BadRequest(f"a seat that starts at block 0 expects {chunk.count} token ids")
        elif chunk.hidden is None or chunk.hidden.rows != chunk.count:
            return BadRequest(
                f"a seat that starts at block {request.span.start} expects {chunk.count} rows of hidden states"
            )
        elif chunk.hidden.dtype is not request.wire:
            return BadRequest(f"hidden states are {chunk.hidden.dtype.name}, seat was opened for {request.wire.name}")
        return None
