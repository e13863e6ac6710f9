"""Pathfinder: finds one Session its Hops, remembers which peers failed it, and knows how long waiting is worth it.

Three circles of distrust. A peer that *this* Session saw fail is out until its backoff is over. A peer that some
Session of the client saw fail (the Scout's bans) is out as long as others can do it. A peer that claims to be full is
asked last. So a replica is preferred while there is one, and the only holder of a Block is asked again, a few times,
before the Session gives up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from client.config import ClientConfig
from swarm.clock import Clock
from swarm.errors import BadGrammar, Draining, Fault, NoRoute, NoSeat, Refused, WrongModel
from swarm.peerinfo import PeerInfo
from swarm.route import Hop, Route
from swarm.router import plan
from swarm.span import Span, uncovered
from swarm.view import SwarmView

FIRST_BACKOFF_S = 1.0  # doubled at every failure of the same peer
MAX_BACKOFF_S = 16.0
MOVED_S = 60.0  # for what it announced to be replaced by what it is now
FIRST_POLL_S = 0.1  # doubled up to the following
MAX_POLL_S = 1.0
UNLOVED_S = 60.0  # of round trip that a peer outside config.prefer seems to have more


class Scout(Protocol):
    """The part of ``client.watcher.Watcher`` that is used."""

    @property
    def view(self) -> SwarmView: ...
    @property
    def banned(self) -> Collection[str]: ...
    def rtt_s(self, peer: PeerInfo) -> float: ...
    def ban(self, peer: PeerInfo, reason: str = "") -> None: ...
    def forgive(self, peer: PeerInfo) -> None: ...
    async def refresh(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Grudge:
    """Against one process of a peer: a restarted one is a new chance."""

    instance: int
    until: float  # monotonic seconds
    failures: int
    full: bool  # it was refused for want of Pages or Seats


class Pathfinder:
    """One Session's. ``failures`` counts what went wrong since the last ``relieve``.

    ``pace``, in [0, 1), differs from Session to Session, so that those who wait for the same Pages do not ask in step.
    """

    def __init__(self, scout: Scout, profile: str, kv_tokens: int, config: ClientConfig, clock: Clock, pace: float):
        self.failures = 0
        self.last_fault: Fault | None = None
        self._unfit: BadGrammar | None = None  # what was asked for
        self._scout, self._profile, self._kv_tokens = scout, profile, kv_tokens
        self._config, self._clock, self._pace = config, clock, pace
        self._grudges: dict[str, Grudge] = {}
        self._since: float | None = None  # when the present waiting began …
        self._waited_s = 0.0  # … and how long the Session had waited for this token before
        self._relieved: Sequence[Hop] = ()

    def relieve(self, route: Sequence[Hop]) -> None:
        """A token came along ``route``: its peers did real work, and the next trouble is a new one."""
        if route != self._relieved:
            self._relieved = route
            for hop in route:
                self._scout.forgive(hop.peer)
        self.failures = 0
        self._since, self._waited_s = None, 0.0

    def settle(self) -> None:
        """The Route is whole: what follows is work and not waiting, however long it takes."""
        if self._since is not None:
            self._waited_s += self._clock.monotonic() - self._since
            self._since = None

    def blame(self, peer: PeerInfo, fault: Fault) -> None:
        """``peer`` failed the Session. Decides how long to go without it, and whether other Sessions should hear."""
        now = self._clock.monotonic()
        known = self._grudges.get(peer.peer_id)
        failures = 1 + (known.failures if known is not None and known.instance == peer.instance else 0)
        backoff_s = min(FIRST_BACKOFF_S * 2 ** (failures - 1), MAX_BACKOFF_S)
        full = isinstance(fault, Refused) and fault.retry_after_s is not None
        match fault:
            case Refused(retry_after_s=None) | BadGrammar():
                backoff_s = float("inf")
            case Refused(retry_after_s=float(retry_after_s)):
                backoff_s = min(max(retry_after_s, FIRST_POLL_S), MAX_BACKOFF_S) * (1 + self._pace)
            case Draining() | WrongModel():
                backoff_s = MOVED_S
            case NoSeat() if failures == 1:
                backoff_s = 0.0  # the Seat expired; the peer is well
            case _:
                pass
        self._grudges[peer.peer_id] = Grudge(peer.instance, now + backoff_s, failures, full)
        self.last_fault = fault
        if isinstance(fault, BadGrammar):
            self._unfit = fault
        self._relieved = ()
        if not isinstance(fault, Refused | NoSeat | BadGrammar):
            self._scout.ban(peer, str(fault))
        self.failures += not full

    async def plan(self, gaps: Sequence[Span]) -> tuple[Route, ...]:
        """A Route over each of ``gaps``. Waits for peers to appear, to free Pages, to get well, while that is worth it.

        Raises NoRoute that names the Blocks nobody serves and the last Fault met; BadGrammar where that is what keeps
        peers from serving them.
        """
        config = self._config
        began = self._since = self._clock.monotonic() if self._since is None else self._since
        poll_s = FIRST_POLL_S
        while True:
            waited_s = self._waited_s + self._clock.monotonic() - began
            if waited_s >= max(config.admission_timeout_s, config.patience_s):  # though there is always one to ask
                raise self._give_up(
                    NoRoute(f"nobody took a seat within {waited_s:.0f} s for blocks {', '.join(map(str, gaps))}", gaps)
                )
            if self.failures > config.max_repairs:
                raise self._give_up(
                    NoRoute(
                        f"{self.failures} hops failed in a row, the last for blocks {', '.join(map(str, gaps))}", gaps
                    )
                )
            try:
                return tuple(self._route(gap) for gap in gaps)
            except NoRoute as error:
                if self._unfit is not None:
                    raise self._unfit from None
                limit_s = config.admission_timeout_s if self._only_full(error.missing) else config.patience_s
                if waited_s >= limit_s:
                    raise self._give_up(error) from None
            await self._clock.sleep(poll_s)
            poll_s = min(2 * poll_s, MAX_POLL_S)
            await self._scout.refresh()

    def _route(self, gap: Span) -> Route:
        view = self._scout.view
        out = self._out(view)
        refusal: NoRoute | None = None
        for banned, kv_tokens in (({*out, *self._scout.banned}, self._kv_tokens), (out, self._kv_tokens), (out, 0)):
            try:
                return plan(
                    view, profile=self._profile, rtt_s=self._rtt_s, span=gap, banned=banned, kv_tokens=kv_tokens
                )
            except NoRoute as error:
                refusal = error
        assert refusal is not None
        raise refusal

    def _rtt_s(self, peer: PeerInfo) -> float:
        prefer = self._config.prefer
        return self._scout.rtt_s(peer) + (UNLOVED_S if prefer and not peer.peer_id.startswith(prefer) else 0.0)

    def _out(self, view: SwarmView) -> set[str]:
        now = self._clock.monotonic()
        return {
            p.peer_id
            for p in view.peers
            if (g := self._grudges.get(p.peer_id)) and g.instance == p.instance and now < g.until
        }

    def _only_full(self, missing: Sequence[Span]) -> bool:
        """Whether peers that only lack room now serve all that is missing."""
        peers = self._scout.view.usable(self._profile)
        full = [p.span for p in peers if (g := self._grudges.get(p.peer_id)) and g.full and g.instance == p.instance]
        return not any(uncovered(span, full) for span in missing)

    def _give_up(self, error: NoRoute) -> NoRoute:
        said = (
            ""
            if self.last_fault is None
            else f" (the last failure: {type(self.last_fault).__name__}: {self.last_fault})"
        )
        return NoRoute(f"{error}{said}", error.missing)
