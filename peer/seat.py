"""Seat: a Session's place at this Peer. Decides what a Chunk may do to it; knows no I/O, no tensors, no other Seat.

    admit(epoch, chunk)                                  the Seat then
    ├── an epoch below or above the Seat's  StaleEpoch, OutOfOrder    is unchanged
    ├── the last step, same bytes           Repeat(answer)            is unchanged; no answer while it is computed
    ├── a step below the last, or a gap     OutOfOrder                is unchanged
    ├── more than was opened                BadRequest, Overflow      is unchanged
    └── the next position                   Accept                    takes step and position; the engine gets it

``position`` counts what was accepted, ``done`` what was computed, so Chunks may be sent ahead of their answers. The
last positions of a Chunk may be drafts: then the next one may begin at any of these, and what lies behind is rolled
back. Whoever rolls a Seat back has the engine forget what it still has of it.

Where outputs go is the Path's affair, and ``outflow`` keeps the books of that. A Seat whose step fails is closed by
its owner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proto.messages import Body, Chunk, Entry, Open, Opened, Path, Token, Want
from proto.outflow import Outflow
from swarm.draft import Drafter
from swarm.errors import BadRequest, Fault, OutOfOrder, Overflow, StaleEpoch

if TYPE_CHECKING:
    from peer.housing import Stored
    from peer.onward import Onward

MAX_WAITING = 8  # times the largest Chunk: positions of one Seat between acceptance and answer

Answer = Chunk | tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    """The Chunk is new; it must be computed now. ``rolled``: what is queued of this Seat is of the past."""

    rolled: bool


@dataclass(frozen=True, slots=True)
class Repeat:
    """The Chunk was taken before. ``answer`` is None while the engine still has it: the one answer will follow."""

    answer: Answer | None


Verdict = Accept | Repeat | Fault


class Seat:
    """Opened over the Link ``link``, which alone commands it; whoever knows its id may send it Chunks."""

    __slots__ = (
        "_answer", "_last", "at_end", "client", "digests", "done", "drafter", "early", "epoch", "expires_at", "fed_at",
        "fed_step", "feeding", "history", "lease_s", "link", "max_chunk_tokens", "number", "onward", "outflow", "owed",
        "pages", "position", "provisional", "request", "row_bytes", "session", "source", "stored", "trail",
        "unanswered",
    )  # fmt: skip

    def __init__(
        self, session: bytes, epoch: int, link: Hashable, request: Open, pages: tuple[int, ...] = (),
        *, max_chunk_tokens: int, lease_s: float, now: float, client: str = "", position: int = 0, at_end: bool = False,
        number: int = 0,
    ):  # fmt: skip
        self.session = session
        self.epoch = epoch
        self.link = link
        self.client = client  # whose it is, for fairness and for what is kept of it
        self.request = request
        self.at_end = at_end  # its last Block is the model's
        self.number = number  # the smaller the older
        self.pages = pages  # of its first positions; peer.housing gives and takes them
        self.owed = 0  # Pages that it may still take
        self.stored: Stored | None = None  # instead of Pages, while it has moved out
        self.digests: list[bytes] = []  # of the full Pages of its input …
        self.trail: bytearray | None = bytearray()  # … and the input after them; None: the chain is broken
        self.row_bytes = 0
        self.max_chunk_tokens = max_chunk_tokens
        self.lease_s = lease_s
        self.position = self.done = position
        self.provisional = position  # the first position that is a draft; ``position`` for none
        self.history = list(request.history)  # grows with what is drawn here, where drawing or drafting needs it
        self.outflow = Outflow()
        self.onward: Onward | None = None  # None: outputs go to the client
        self.feeding: Onward | None = None  # ring: the first Hop's Seat
        self.source: Hashable = link  # the Link that the last Chunk came over
        self.unanswered: deque[int] = deque()  # where Chunks of several positions end whose Done is still due
        self.drafter: Drafter | None = None
        self.fed_step, self.fed_at = -1, 0.0  # ring, with drafts: the step that was fed last, and when
        self.early: list[tuple[Hashable, int, Chunk]] = []  # (Link, epoch, Chunk) that came before the Path
        self._last: Chunk | None = None
        self._answer: Answer | None = None  # to ``_last``, once computed
        self.renew(now)

    def renew(self, now: float) -> None:
        self.expires_at = now + self.lease_s

    def expired(self, now: float) -> bool:
        """Whether no step came for a lease; a Seat with a Chunk in the engine waits for us, not we for it."""
        return not self.busy and now >= self.expires_at

    @property
    def busy(self) -> bool:
        """Whether the engine has something of it."""
        return self.position > self.done

    def opened(self) -> Opened:
        return Opened(self.position, self.lease_s, self.max_chunk_tokens, self.outflow.kept_from(self.position))

    @property
    def writes_history(self) -> bool:
        """Whether what is drawn here has to be remembered."""
        sampling = self.request.sampling
        return sampling is not None and (sampling.needs_history or self.request.draft_tokens > 0)

    def advance(self, epoch: int) -> None:
        """Raise the epoch. What is not computed is rolled back, and nothing leaves until there is a Path again. Raises
        StaleEpoch for a lower one.
        """
        if epoch < self.epoch:
            raise self._stale(epoch)
        self.epoch = epoch
        self.rollback(self.done)
        self.outflow.halt()
        self.early.clear()

    def take_path(self, epoch: int, path: Path) -> bool:
        """Outputs go along ``path`` from now on. Returns whether something was rolled back. Raises a Fault."""
        if epoch < self.epoch:
            raise self._stale(epoch)
        if epoch > self.epoch:
            raise OutOfOrder(f"path of epoch {epoch}, seat is at epoch {self.epoch}; advance it first")
        if path.next is not None and self.at_end:
            raise BadRequest("a path leads on from the last block")
        if path.feed is not None and self.request.sampling is None:
            raise BadRequest("a seat without sampling parameters has no tokens to feed to another")
        rolled = path.position < self.position
        if rolled:
            self.rollback(min(path.position, self.done))
        if self.writes_history:
            del self.history[max(path.num_tokens, len(self.request.history)) :]
        self.drafter = None  # it may not know every token: the next one to be fed makes another of the history
        limit = self.max_chunk_tokens
        if path.next is not None:
            limit = min(limit, path.next.max_chunk_tokens)
        self.outflow.turn(self.done, path.next_position, path.step, limit, keeps=path.next is not None)
        return rolled

    def admit(self, epoch: int, chunk: Chunk) -> Verdict:
        """Judge a Chunk and, with Accept, take it. See the table at the top of the file."""
        if epoch < self.epoch:
            return self._stale(epoch)
        if epoch > self.epoch:
            return OutOfOrder(f"chunk of epoch {epoch}, seat is at epoch {self.epoch}; advance it first")
        last = self._last
        if last is not None and chunk.step == last.step and chunk.position == last.position:
            # The Chunk itself is kept, not a digest: comparing is exact and cheaper, and its answer is as large.
            if chunk != last:
                return OutOfOrder(f"other content for step {chunk.step} came after it was taken")
            return Repeat(self._answer)
        if last is not None and chunk.step < last.step:
            return OutOfOrder(f"step {chunk.step} came after step {last.step} was taken")
        if not self.provisional <= chunk.position <= self.position:
            return OutOfOrder(f"chunk starts at {chunk.position}, seat is at {self.position}")
        if self.done < chunk.position < self.position:
            return OutOfOrder(f"chunk starts at a draft, {chunk.position}, seat is computed up to {self.done}")
        refusal = self._refusal(chunk)
        if refusal is not None:
            return refusal
        rolled = chunk.position < self.position
        if rolled:
            self.rollback(chunk.position)
        self.position = chunk.end
        self.provisional = chunk.end - len(chunk.drafts)
        self._last, self._answer = chunk, None
        if chunk.count > 1:
            self.unanswered.append(chunk.end)
        return Accept(rolled)

    def finish(self, chunk: Chunk, answer: Answer) -> bool:
        """Take in the answer to an accepted Chunk, or to the next part of one. Whether a Done is due for it."""
        self.done = chunk.end
        last = self._last
        if last is not None and chunk.end == last.end:
            self._answer = answer
        if isinstance(answer, tuple) and self.writes_history:
            self.history.extend(token.token_id for token in answer)
        due = bool(self.unanswered) and self.unanswered[0] <= self.done
        while self.unanswered and self.unanswered[0] <= self.done:
            self.unanswered.popleft()
        return due

    def rollback(self, position: int) -> None:
        """Forget everything from ``position`` on: what was computed, what is queued, what has been given."""
        self.position = min(self.position, position)
        self.done = min(self.done, position)
        self.provisional = self.position
        self._last = self._answer = None
        self.unanswered.clear()
        self.outflow.cut(self.position)

    def entry(self, body: Body) -> Entry:
        return Entry(self.session, self.epoch, body)

    def _stale(self, epoch: int) -> StaleEpoch:
        return StaleEpoch(f"message of epoch {epoch}, seat is at epoch {self.epoch}")

    def _refusal(self, chunk: Chunk) -> Fault | None:
        """What of a Chunk contradicts the Open. Sizes against each other were checked when the frame was read."""
        request = self.request
        if chunk.count < 1 or chunk.count > self.max_chunk_tokens:
            return BadRequest(f"chunk of {chunk.count} tokens, expected 1 to {self.max_chunk_tokens}")
        if chunk.end > request.max_tokens:
            return BadRequest(f"chunk ends at {chunk.end}, seat was opened for {request.max_tokens} tokens")
        if self.busy and chunk.end - self.done > MAX_WAITING * self.max_chunk_tokens:
            most = MAX_WAITING * self.max_chunk_tokens
            return Overflow(f"{chunk.end - self.done} tokens are waiting, expected no more than {most}")
        if chunk.drafts and chunk.want is Want.NOTHING:
            return BadRequest(f"{len(chunk.drafts)} drafts came with a chunk of which nothing is wanted")
        if chunk.want is Want.TOKEN and self.at_end and request.sampling is None:
            return BadRequest("a token is wanted, but the seat was opened without sampling parameters")
        if request.span.start == 0 and not request.embedded:
            if chunk.token_ids is None or len(chunk.token_ids) != chunk.count:
                return BadRequest(f"a seat that starts at block 0 expects {chunk.count} token ids")
        elif chunk.hidden is None or chunk.hidden.rows != chunk.count:
            return BadRequest(
                f"a seat that starts at block {request.span.start} expects {chunk.count} rows of hidden states"
            )
        elif chunk.hidden.dtype is not request.wire:
            return BadRequest(f"hidden states are {chunk.hidden.dtype.name}, seat was opened for {request.wire.name}")
        return None
