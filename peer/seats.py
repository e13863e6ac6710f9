"""Seats: the book of this Peer's Seats. Decides admission; leaves Pages to housing; knows no I/O and no tensors.

A Seat leaves the book by Close, by a failed step, with its Link, or by an unrenewed lease; each way frees its Pages at
once. That is safe while the compute thread still works on one of its Chunks: whoever gets the Pages next is computed in
a later Batch, and reads no slot that it has not written.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from peer.housing import Housed, Housing
from peer.meter import Meter
from peer.pages import RETRY_AFTER_S, PagePool
from peer.scheduler import Work
from peer.seat import Seat
from proto.messages import Fork, Open, Opened
from swarm.clock import Clock
from swarm.errors import BadRequest, Draining, NoSeat, OutOfOrder, Refused, StaleEpoch, UsageError, WrongModel
from swarm.peerinfo import ModelRef
from swarm.profile import accepts
from swarm.sampling import Grammar
from swarm.span import Span

_NO_SEAT = "no seat for this session here; it was closed, expired, or never opened"


@dataclass(frozen=True, slots=True)
class Terms:
    """What this Peer offers to every Session alike."""

    model: ModelRef
    span: Span
    profile: str
    max_positions: int
    page_size: int  # token slots
    max_sessions: int = 64
    max_chunk_tokens: int = 256
    lease_s: float = 60.0

    def __post_init__(self) -> None:
        if min(self.max_positions, self.page_size, self.max_sessions, self.max_chunk_tokens) < 1 or self.lease_s <= 0:
            raise UsageError(f"terms must be positive: {self}")


class Seats:
    """All Seats by Session id. ``draining`` set: those that are stay, no new one comes."""

    def __init__(
        self, terms: Terms, pool: PagePool, clock: Clock, swap_bytes: int = 1 << 30, meter: Meter | None = None
    ):
        self.terms = terms
        self.draining = False
        self._meter = meter or Meter()
        self.housing = Housing(pool, terms.page_size, swap_bytes)
        self._pool = pool
        self._numbers = count()
        self._clock = clock
        self._seats: dict[bytes, Seat] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Seat]:
        return iter(self._seats.values())

    @property
    def kv_tokens(self) -> int:
        return self._pool.total * self.terms.page_size

    @property
    def kv_tokens_free(self) -> int:
        return min(self._pool.promisable, self._pool.total) * self.terms.page_size

    def open(self, session: bytes, epoch: int, link: Hashable, request: Open, client: str = "") -> Opened:
        """Promise all Pages of a new Seat, or raise a Fault and open nothing.

        The same Open again is answered again. The same Link with a higher epoch gives up its Seat for the new one, even
        if the new one is refused; another Link can do neither.
        """
        known = self._seats.get(session)
        if known is not None:
            if known.link != link:
                raise Refused("this session id is in use on another link; choose a random one")
            if epoch < known.epoch:
                raise StaleEpoch(f"open of epoch {epoch}, seat is at epoch {known.epoch}")
            if epoch == known.epoch:
                if request != known.request:
                    raise OutOfOrder(f"another open of epoch {epoch} for a seat that exists; raise the epoch")
                self.renew(known)
                return known.opened()
            self.close(known)
        self._check(request)
        if len(self._seats) >= self.terms.max_sessions:
            raise Refused(f"all {self.terms.max_sessions} seats are taken", RETRY_AFTER_S)
        pages, owed = self.housing.move_in(request, client)
        found = len(pages) * self.terms.page_size
        self._meter.prefix(found, max(0, request.prompt_tokens - found))
        known_digests = request.prefix[: len(pages)]
        return self._seat(session, epoch, link, request, client, pages, owed, known_digests).opened()

    def fork(self, seat: Seat, request: Fork) -> Opened:
        """A second Seat that begins as ``seat`` did. Raises a Fault and opens nothing."""
        if self.draining:
            raise Draining("this peer is leaving; use another")
        if request.seat in self._seats:
            raise Refused("this session id is in use; choose a random one")
        if request.position > seat.done or request.position > seat.provisional:
            raise OutOfOrder(f"a fork at {request.position}, {min(seat.done, seat.provisional)} are computed for good")
        if len(self._seats) >= self.terms.max_sessions:
            raise Refused(f"all {self.terms.max_sessions} seats are taken", RETRY_AFTER_S)
        if seat.stored is not None:
            raise Refused("the seat has moved out for want of pages; try again", RETRY_AFTER_S)
        if (request.sampling is None) != (seat.request.sampling is None):
            raise BadRequest("a fork has sampling parameters where the seat has them, and nowhere else")
        pages, owed = self.housing.fork(seat, request.position)
        history = tuple(seat.history[: request.num_tokens]) if seat.writes_history else ()
        sampling, known = request.sampling, seat.request.sampling
        if sampling is not None and known is not None:  # what is long did not travel again
            sampling = replace(
                sampling, logit_bias=known.logit_bias, end_token_ids=known.end_token_ids, grammar=known.grammar
            )
        opening = replace(seat.request, sampling=sampling, history=history, prefix=())
        digests = seat.digests[: request.position // self.terms.page_size]
        new = self._seat(request.seat, seat.epoch, seat.link, opening, seat.client, pages, owed, digests)
        new.position = new.done = new.provisional = request.position
        if request.position != len(digests) * self.terms.page_size:
            new.trail = None  # the beginning of its last Page went by before it was there
        return new.opened()

    def house(self, works: Sequence[Work[Seat]], waits: Callable[[Seat], bool]) -> Housed:
        """See that a Batch has the Pages it needs."""
        return self.housing.house(works, tuple(self), waits)

    def get(self, session: bytes) -> Seat | None:
        """The Session's Seat, whosever it is."""
        return self._seats.get(session)

    def grammar_of(self, session: bytes) -> Grammar | None:
        """What the answer of the Session's Seat has to fit."""
        seat = self._seats.get(session)
        sampling = None if seat is None else seat.request.sampling
        return None if sampling is None else sampling.grammar

    def find(self, session: bytes, link: Hashable) -> Seat:
        """The Seat that ``link`` opened, its lease renewed. Raises NoSeat, which a stranger's Link hears too."""
        seat = self._seats.get(session)
        if seat is None or seat.link != link:
            raise NoSeat(_NO_SEAT)
        self.renew(seat)
        return seat

    def receiver(self, session: bytes) -> Seat:
        """The Seat that a Chunk is for, its lease renewed. Raises NoSeat."""
        seat = self._seats.get(session)
        if seat is None:
            raise NoSeat(_NO_SEAT)
        self.renew(seat)
        return seat

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def renew(self, seat: Seat) -> None:
        seat.renew(self._clock.monotonic())

    def holds(self, seat: Seat) -> bool:
        """Whether this very Seat is still in the book."""
        return self._seats.get(seat.session) is seat

    def close(self, seat: Seat) -> None:
        """Take a Seat out and free its Pages; nothing happens to one that has left already."""
        if self.holds(seat):
            del self._seats[seat.session]
            self.housing.move_out(seat)

    def close_link(self, link: Hashable) -> tuple[Seat, ...]:
        """Close all Seats of a Link that is gone."""
        return self._close_where(lambda seat: seat.link == link)

    def close_expired(self) -> tuple[Seat, ...]:
        """Close all Seats whose lease has run out."""
        now = self._clock.monotonic()
        return self._close_where(lambda seat: seat.expired(now))

    def _seat(
        self, session: bytes, epoch: int, link: Hashable, request: Open, client: str, pages: tuple[int, ...], owed: int,
        digests: Sequence[bytes],
    ) -> Seat:  # fmt: skip
        seat = Seat(
            session, epoch, link, request, pages,
            max_chunk_tokens=self.terms.max_chunk_tokens, lease_s=self.terms.lease_s, now=self._clock.monotonic(),
            client=client, position=len(pages) * self.terms.page_size,
            at_end=request.span.end == self.terms.model.num_blocks, number=next(self._numbers),
        )  # fmt: skip
        seat.owed, seat.digests = owed, list(digests)
        self._seats[session] = seat
        return seat

    def _close_where(self, condition: Callable[[Seat], bool]) -> tuple[Seat, ...]:
        leaving = tuple(seat for seat in self._seats.values() if condition(seat))
        for seat in leaving:
            self.close(seat)
        return leaving

    def _check(self, request: Open) -> None:
        terms = self.terms
        if self.draining:
            raise Draining("this peer is leaving; use another")
        if request.fingerprint != terms.model.fingerprint:
            here = f"{terms.model.fingerprint} ({terms.model.name})"
            raise WrongModel(f"model {request.fingerprint[:32]!r} wanted, this peer serves {here}")
        if not accepts(request.profile, terms.profile):
            raise WrongModel(f"profile {request.profile[:32]!r} wanted, this peer serves {terms.profile!r}")
        if not terms.span.covers(request.span):
            raise WrongModel(f"blocks {request.span} wanted, this peer serves {terms.span}")
        if request.sampling is not None and request.span.end != terms.model.num_blocks:
            end = request.span.end
            raise BadRequest(f"sampling wanted after block {end}, the model ends at {terms.model.num_blocks}")
        if not 1 <= request.max_tokens <= terms.max_positions:
            raise Refused(f"{request.max_tokens} tokens wanted, the model has {terms.max_positions} positions")
        if not 0 <= request.prompt_tokens <= request.max_tokens or len(request.history) > request.max_tokens:
            known = f"{request.prompt_tokens} prompt and {len(request.history)} history tokens"
            raise BadRequest(f"{known} do not fit the {request.max_tokens} tokens wanted")
