"""Board: keeps the picture of a swarm. Looks at the directory, asks every Peer, draws, tells who waits, keeps history.

Only reads. What comes of looking and asking goes into ``sightings``, what is shown is made by ``picture``; here are the
tasks and their pace. A value is at most ``sightings.ASK_EVERY_S`` and ``DRAW_S`` old, a question's time added; when
there is so much to draw that it takes long, or so much to send, it is drawn less often.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from client.config import ClientConfig
from client.links import Links
from dashboard import picture
from dashboard.config import DashboardConfig
from dashboard.history import STEP_S, History
from dashboard.joining import shown_addresses
from dashboard.picture import Hints, Json
from dashboard.sightings import Lane, Sighting, Sightings
from dht.directory import Directory
from proto.messages import Info
from swarm.clock import Clock
from swarm.errors import ShoalError, SwarmError
from swarm.peerinfo import ModelRef, PeerInfo
from swarm.version import software_version

LOOK_EVERY_S = 2.0
ASK_TIMEOUT_S = 1.5
ASKS_AT_ONCE = {Lane.KNOWN: 32, Lane.NEW: 16, Lane.SILENT: 8}
TICK_S = 0.25
DRAW_S = 1.0
SLOW_S = 0.02  # a drawing that takes longer is done on another thread the next time
REPEAT_S = 5.0  # the same picture is told again after so long
BYTES_PER_S = 100_000  # of pictures, to each reader
FIRST_S = 3.0  # how long the first picture waits for answers
MAX_MODELS = 32
NEW_MODELS = 8  # that nobody was seen to serve, looked at in turns: a stranger can announce any number of them
PEER_POINTS = 360  # an hour of each Peer, in memory

log = logging.getLogger("dashboard.board")


class Asking(Protocol):
    """The part of ``client.links.Links`` that is used."""

    async def info(self, peer: PeerInfo, timeout_s: float) -> Info: ...
    def keep(self, peers: Iterable[PeerInfo]) -> None: ...
    async def close(self) -> None: ...


class Board:
    """``async with`` it. ``version`` grows with every picture that is told; ``body`` is the picture as JSON."""

    def __init__(
        self, directory: Directory, config: DashboardConfig, clock: Clock, history: History, links: Asking | None = None
    ):
        self.config, self.clock, self.history = config, clock, history
        self.directory = directory
        self.hints = Hints(
            software_version(),
            shown_addresses(config.public_join, config.join),
            config.try_tokens if config.try_it else None,
        )
        self.picture: Json = picture.swarm_picture((), clock.wall(), self.hints)
        self.body = dump(self.picture)
        self.version = 0
        self.point: Json | None = None  # the latest of the history
        self.closing = False
        self._told: Json | None = None
        self._told_at = 0.0
        self._took_s = 0.0  # the last drawing
        self._news = asyncio.Event()
        self._sightings = Sightings()
        self._links: Asking = links or Links(ClientConfig(), clock)
        self._lanes = {lane: asyncio.Semaphore(places) for lane, places in ASKS_AT_ONCE.items()}
        self._asking: set[asyncio.Task[None]] = set()
        self._pasts: dict[str, deque[Json]] = {}
        self._shown: tuple[ModelRef, ...] = ()  # that somebody serves
        self._turn = 0  # among the models that nobody was seen to serve
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Board:
        """Has looked, and asked whoever answers quickly."""
        await self._look()
        self._ask_due()
        if self._asking:
            await asyncio.wait(self._asking, timeout=FIRST_S)
        await self._draw()
        for work in (self._look_on, self._ask_on, self._draw_on, self._keep):
            self._tasks.append(asyncio.create_task(self._go_on(work), name="dashboard"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()
        tasks = [*self._tasks, *self._asking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._links.close()

    def hang_up(self) -> None:
        """Streams that are open end, so that their server can."""
        self.closing = True
        self._wake()

    async def news(self) -> None:
        """Returns when there is a later ``version`` or ``point``, or ``closing`` was set."""
        await self._news.wait()

    @property
    def in_touch(self) -> bool:
        """Whether the swarm could be looked at the last time."""
        return self._sightings.in_touch

    def peer(self, peer_id: str) -> Json | None:
        """The body of ``/api/v1/peers/ID``."""
        row = next((row for row in self.picture["peers"] if row["id"] == peer_id), None)
        if row is None:
            return None
        links = [link for link in self.picture["links"] if peer_id in (link["from"], link["to"])]
        return {**row, "links": links, "history": list(self._pasts.get(peer_id, ()))}

    def name_of(self, peer_id: str) -> str:
        return next((row["name"] for row in self.picture["peers"] if row["id"] == peer_id), "")

    def model(self, fingerprint: str | None) -> Json | None:
        """The model that is meant: by its fingerprint, or the best that is served."""
        models = [m for m in self.picture["models"] if fingerprint in (None, m["fingerprint"])]
        return max(models, key=lambda m: (m["state"] != "broken", m["peers"], m["fingerprint"]), default=None)

    # Looking and asking.

    async def _go_on(self, work: Callable[[], Awaitable[float]]) -> None:
        """For ever; ``work`` says for how long to pause. A mistake of ours must not leave an old picture standing."""
        pause_s = TICK_S
        while True:
            await self.clock.sleep(pause_s)
            try:
                pause_s = await work()
            except Exception:
                log.exception("the dashboard failed; it goes on")
                pause_s = DRAW_S

    async def _look_on(self) -> float:
        await self._look()
        return LOOK_EVERY_S

    async def _look(self) -> None:
        try:
            models = self._chosen(await self.directory.models())
            views = await asyncio.gather(*(self.directory.view(model) for model in models))
        except SwarmError as error:
            if self._sightings.in_touch:
                log.warning("cannot look at the swarm now: %s", error)
            self._sightings.lost_touch(self.clock.wall(), self.clock.monotonic())
            return
        self._shown = tuple(model for model, view in zip(models, views, strict=True) if view.peers)
        peers = [peer for view in views for peer in view.peers]
        self._sightings.look(peers, self.clock.wall(), self.clock.monotonic())
        self._links.keep(self._sightings.present())

    def _chosen(self, models: tuple[ModelRef, ...]) -> list[ModelRef]:
        """One for each set of weights: all that somebody serves, and a few more, others each time."""
        wanted = self.config.models
        shown = {(model.fingerprint, model.num_blocks) for model in self._shown}
        found = {
            (model.fingerprint, model.num_blocks): model
            for model in reversed(models)
            if not wanted or model.name in wanted or model.fingerprint in wanted
        }
        known = [model for key, model in found.items() if key in shown][:MAX_MODELS]
        new = [model for key, model in found.items() if key not in shown]
        at = self._turn % len(new) if new else 0
        self._turn = at + NEW_MODELS
        return known + (new[at:] + new[:at])[: min(NEW_MODELS, MAX_MODELS - len(known))]

    async def _ask_on(self) -> float:
        self._ask_due()
        return TICK_S

    def _ask_due(self) -> None:
        for peer in self._sightings.due(self.clock.monotonic()):
            task = asyncio.create_task(self._ask(peer), name="ask a peer")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, peer: PeerInfo) -> None:
        async with self._lanes[self._sightings.lane(peer.peer_id)]:
            begun = self.clock.monotonic()
            try:
                info = await self._links.info(peer, ASK_TIMEOUT_S)
            except (ShoalError, OSError) as error:
                log.debug("%s does not answer: %s", peer, error)
            except Exception:
                log.exception("asking %s failed", peer)
            else:
                now = self.clock.monotonic()
                self._sightings.heard(peer, info, now - begun, now)
                return
            self._sightings.silent(peer, self.clock.wall(), self.clock.monotonic())

    # Drawing and telling.

    async def _draw_on(self) -> float:
        begun = self.clock.monotonic()
        await self._draw()
        self._took_s = self.clock.monotonic() - begun
        return min(REPEAT_S, max(DRAW_S, 10 * self._took_s, len(self.body) / BYTES_PER_S))

    async def _draw(self) -> None:
        now, wall = self.clock.monotonic(), self.clock.wall()
        self._sightings.settle(wall, now)
        work = partial(_render, self._sightings.all(now), wall, self.hints)
        drawn = work() if self._took_s < SLOW_S else await asyncio.to_thread(work)  # others use this loop too
        self.picture, self.body, substance = drawn
        if substance != self._told or now - self._told_at >= REPEAT_S - DRAW_S / 2:
            self._told, self._told_at = substance, now
            self.version += 1
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        if not self.closing:
            self._news = asyncio.Event()

    async def _keep(self) -> float:
        """A point at every full step of the wall clock; the first one at once, so that there is a first."""
        point = {**picture.point(self.picture), "at": round(self.clock.wall(), 3)}
        self._remember()
        await self.history.add(point)
        self.point = point
        self._wake()
        return STEP_S - self.clock.wall() % STEP_S

    def _remember(self) -> None:
        """One point of every Peer's own past."""
        rows = self.picture["peers"]
        present = {row["id"] for row in rows}
        self._pasts = {peer_id: past for peer_id, past in self._pasts.items() if peer_id in present}
        for row in rows:
            past = self._pasts.setdefault(row["id"], deque(maxlen=PEER_POINTS))
            past.append({"at": self.picture["at"], "tokens_per_s": row["tokens_per_s"], "sessions": row["sessions"]})


def _render(sightings: Sequence[Sighting], wall: float, hints: Hints) -> tuple[Json, bytes, Json]:
    """The picture, as JSON, and what is news of it."""
    made = picture.swarm_picture(sightings, wall, hints)
    return made, dump(made), picture.substance(made)


def dump(value: Json) -> bytes:
    """JSON on one line: json escapes line breaks, which would end an event. NaN is no JSON and never ours to send."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
