"""Models: which ones this gateway offers, which of them the swarm serves now, and a client for each that is used.

A request names a model, ``model@revision`` (how a fingerprint begins), a fingerprint, or an alias. Of several
fingerprints under one name, that one is meant which the swarm covers, by most peers. Clients are made when a model is
first asked for; a stranger who announces many models cannot make the gateway keep many.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from client.async_client import AsyncClient
from client.served import Served, largest_budget
from dht.directory import Directory
from gateway.aliases import Alias
from gateway.errors import ApiError
from swarm.clock import Clock
from swarm.errors import ShoalError, SwarmError
from swarm.peerinfo import ModelRef
from swarm.span import uncovered
from swarm.view import SwarmView

EVERY_S = 3.0
RETRY_S = 5.0
MAX_LOOKS = 64  # models that are looked at; those named on the command line come first
MAX_CLIENTS = 16
_REVISION = re.compile(r"(.+)@([0-9a-f]{4,32})")
_FINGERPRINT = re.compile(r"[0-9a-f]{8,32}")

log = logging.getLogger("gateway.models")


@dataclass(frozen=True, slots=True)
class Standing:
    """How one model stands in the swarm now. ``complete``: every Block has somebody who takes new Seats."""

    model: ModelRef
    peers: int
    complete: bool
    view: SwarmView

    @classmethod
    def of(cls, model: ModelRef, view: SwarmView) -> Standing:
        usable = view.usable()
        return cls(model, len(usable), not uncovered(view.span, (peer.span for peer in usable)), view)


@dataclass(frozen=True, slots=True)
class Target:
    """What a request's model turned out to be. ``name`` is what it is called in answers and metrics."""

    name: str
    model: ModelRef


def means(wanted: str, model: ModelRef) -> bool:
    """Whether ``wanted`` (a name, name@revision, or how a fingerprint begins) may mean ``model``."""
    if wanted == model.name:
        return True
    revision = _REVISION.fullmatch(wanted)
    if revision is not None and revision[1] == model.name:
        return model.fingerprint.startswith(revision[2])
    return _FINGERPRINT.fullmatch(wanted) is not None and model.fingerprint.startswith(wanted)


def rank(standing: Standing) -> tuple[bool, int, str]:
    """Complete before others, then the most peers."""
    return standing.complete, standing.peers, standing.model.fingerprint


def best(standings: Sequence[Standing]) -> Standing | None:
    """The one that is meant where several may be."""
    return max(standings, key=rank, default=None)


class Models:
    """``wanted``: what the command line names; nothing: whatever the swarm serves. ``make`` builds a client."""

    def __init__(
        self, directory: Directory, wanted: Sequence[str], aliases: Mapping[str, Alias],
        make: Callable[[str], AsyncClient], clock: Clock,
    ):  # fmt: skip
        self._directory, self._aliases, self._make, self._clock = directory, aliases, make, clock
        targets = [target for alias in aliases.values() for target, _ in alias.targets]
        self.named = tuple(dict.fromkeys([*wanted, *targets]))
        self._open = not wanted  # whatever is served is offered
        self._standings: tuple[Standing, ...] = ()
        self._clients: dict[str, AsyncClient] = {}  # by fingerprint; the longest unused first
        self._uses: dict[str, int] = {}
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Models:
        """Has looked once, if the swarm could be looked at."""
        await self.refresh()
        self._running = asyncio.create_task(self._run(), name="watch the models")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients.values()), return_exceptions=True)
        self._clients.clear()

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Of all models that are offered, at the last look."""
        return self._standings

    @property
    def ready(self) -> bool:
        """Whether somebody could be answered now: with names on the command line, by each of them."""
        if self.named:
            return all(any(s.complete for s in self._meant(name)) for name in self.named)
        return any(standing.complete for standing in self._standings)

    def listed(self) -> list[Target]:
        """What /v1/models tells: each name that somebody serves; a second model of one name with its revision."""
        found: list[Target] = []
        for name in self.named:
            standing = best([s for s in self._meant(name) if s.peers])
            if standing is not None:
                found.append(Target(name, standing.model))
        if self._open:
            known = {target.model.fingerprint for target in found}
            for standing in sorted(self._standings, key=lambda s: (s.model.name, not s.complete, -s.peers)):
                model = standing.model
                if standing.peers and model.fingerprint not in known:
                    taken = any(target.name == model.name for target in found)
                    found.append(Target(f"{model.name}@{model.fingerprint[:8]}" if taken else model.name, model))
        return found

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(self._aliases)

    def resolve(self, asked: str | None, request_id: str) -> Target:
        """Raises ApiError: 404 for what is not offered, 503 for what nobody serves at the moment."""
        if asked is None:
            names = [target.name for target in self.listed()]
            if len(names) != 1:
                raise ApiError(400, f"name a model; there are {', '.join(names) or 'none now'}", param="model")
            asked = names[0]
        alias = self._aliases.get(asked)
        name = alias.choose(request_id) if alias is not None else asked
        meant = self._meant(name)
        standing = best([s for s in meant if s.peers])
        if standing is not None:
            return Target(name, standing.model)
        if meant or name in self.named:
            raise ApiError(503, f"nobody serves {name!r:.200} now", code="no_route", retry_after_s=RETRY_S)
        names = [*self._aliases, *(target.name for target in self.listed())]
        there = ", ".join(names[:16]) or "none now"
        raise ApiError(
            404, f"the model {asked!r:.200} does not exist; there are: {there}", param="model", code="model_not_found"
        )

    @asynccontextmanager
    async def use(self, target: Target) -> AsyncGenerator[AsyncClient]:
        """The client of a model; it stays open while it is used."""
        fingerprint = target.model.fingerprint
        client = self._clients.pop(fingerprint, None)
        if client is None:
            spare = self._spare()
            client = self._make(fingerprint)
        else:
            spare = None
        self._clients[fingerprint] = client
        self._uses[fingerprint] = self._uses.get(fingerprint, 0) + 1
        try:
            if spare is not None:
                await spare.close()
            yield client
        finally:
            self._uses[fingerprint] -= 1

    async def served(self, target: Target) -> Served:
        """What is to be known of a model. Joins its swarm if that was not done yet. Raises ShoalError."""
        async with self.use(target) as client:
            return await client.served()

    def complete(self, target: Target) -> bool:
        """Whether every Block of it has somebody who takes new Seats."""
        return any(s.complete for s in self._standings if s.model.fingerprint == target.model.fingerprint)

    def versions(self, target: Target) -> list[str]:
        """The fingerprints that are served under its name; the one that is meant without a version first."""
        same = [s for s in self._standings if s.peers and s.model.name == target.model.name]
        return [s.model.fingerprint for s in sorted(same, key=rank, reverse=True)]

    def max_model_len(self, served: Served) -> int:
        """The most tokens that prompt and answer may have together: of the model, or of the swarm's Pages."""
        standing = next((s for s in self._standings if s.model.fingerprint == served.model.fingerprint), None)
        budget = largest_budget(standing.view, served.profile) if standing is not None else None
        return served.max_positions if budget is None else min(budget, served.max_positions)

    async def refresh(self) -> None:
        """Look at the swarm; where that fails the last picture stays."""
        try:
            models = {
                model.fingerprint: model for model in reversed(await self._directory.models()) if self._offered(model)
            }
            refs = sorted(
                models.values(), key=lambda m: (not any(means(n, m) for n in self.named), m.name, m.fingerprint)
            )
            views = await asyncio.gather(*(self._directory.view(ref) for ref in refs[:MAX_LOOKS]))
        except SwarmError as error:
            log.warning("cannot look at the swarm now: %s", error)
            return
        self._standings = tuple(Standing.of(ref, view) for ref, view in zip(refs, views, strict=False))

    def _offered(self, model: ModelRef) -> bool:
        return self._open or any(means(name, model) for name in self.named)

    def _meant(self, name: str) -> list[Standing]:
        return [standing for standing in self._standings if means(name, standing.model)]

    def _spare(self) -> AsyncClient | None:
        """A client that has to go for a new one. Raises ApiError where all are in use."""
        if len(self._clients) < MAX_CLIENTS:
            return None
        idle = next((name for name in self._clients if not self._uses.get(name)), None)
        if idle is None:
            raise ApiError(503, f"{MAX_CLIENTS} other models are in use", code="overloaded", retry_after_s=RETRY_S)
        self._uses.pop(idle, None)
        return self._clients.pop(idle)

    async def _run(self) -> None:
        for name in self.named:  # so that the first request need not wait for it
            standing = best([s for s in self._meant(name) if s.peers])
            if standing is not None:
                try:
                    begun = self._clock.monotonic()
                    await self.served(Target(name, standing.model))
                    log.info("knows %s after %.1f s", name, self._clock.monotonic() - begun)
                except (ShoalError, ApiError) as error:
                    log.warning("cannot learn %s yet: %s", name, error)
        while True:
            await self._clock.sleep(EVERY_S)
            await self.refresh()
