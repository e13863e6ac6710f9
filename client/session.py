"""Session: one generation along a Route; it survives the loss of any Hop.

    plan → open all Hops at once → a Path to each (client/course.py) → tokens
             ↑                        │ a Hop is lost, or cannot reach the next
             └── detour over the gap ─┘

The client sends the tokens it knows to the first Hop (client/feed.py), carries what crosses between Hops that cannot
reach each other (client/journal.py), and reads what all of them say (client/mailbox.py). It alone decides what trouble
means: the epoch rises, which fences off whatever is under way, every Seat says how far it is, new Seats fill the gaps,
and each courier sends again what the Seat behind it lacks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from types import TracebackType

from client.config import ClientConfig, PathShape
from client.course import first_behind, settle
from client.crew import NAME_BYTES, Crew
from client.feed import Drafting, Feed
from client.journal import Budget, Journal
from client.lane import Lane, Lines, Shape
from client.mailbox import Mailbox
from client.pathfinder import Pathfinder, Scout
from client.prefixes import Naming, Prefixes, place_of
from client.request import Ends, Request, check_sendable
from client.vigil import Vigil
from proto.messages import (
    Body,
    Chunk,
    Done,
    Entry,
    Fork,
    Kept,
    Open,
    Path,
    Token,
    Trouble,
    Want,
)
from swarm.clock import Clock, SystemClock
from swarm.errors import Fault, NoRoute, NoSeat, Timeout
from swarm.route import Hop, Route
from swarm.sampling import SamplingParams
from swarm.span import Span, uncovered


class Session:
    """``async with`` it, then ``await next()`` up to ``max_new_tokens`` times. Leaving frees every Seat."""

    def __init__(
        self, request: Request, scout: Scout, lines: Lines, budget: Budget, config: ClientConfig,
        *, clock: Clock | None = None, random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        drafter: Drafting | None = None, prefixes: Prefixes | None = None, ends: Ends | None = None,
    ):  # fmt: skip
        check_sendable(request)
        self.failovers = 0  # Hops lost since the first Route stood
        self.cached_tokens = 0  # of the prompt, that no Hop had to compute
        self._request, self._scout, self._lines, self._config = request, scout, lines, config
        self._clock, self._random_bytes = clock or SystemClock(), random_bytes
        self._budget, self._prefixes, self._ends = budget, Prefixes() if prefixes is None else prefixes, ends
        self._journal = Journal(request.prompt, budget)
        self._naming = Naming(self._prefixes)
        name = random_bytes(NAME_BYTES)
        self._paths = Pathfinder(scout, request.profile, request.kv_tokens, config, self._clock, name[0] / 256)
        shape = Shape(request.hidden_size, request.vocab_size, config.wire)
        self._mailbox = Mailbox()
        self._crew = Crew(name, lines, shape, config, self._mailbox, lambda hop, fault: self._blame(hop, fault))
        self._span = Span(0, request.model.num_blocks)
        self._ring = config.shape in (None, "ring") and drafter is None and ends is None and not request.guided
        wanted = Want.TOKEN if ends is None else Want.HIDDEN
        self._feed = Feed(self._journal, request.kv_tokens, wanted, drafter)
        self._vigil = Vigil(lines, config, self._clock)
        self._computes = drafter is not None and config.draft_model is not None  # guessing takes a while
        self._drawn: deque[Token] = deque()  # that nobody has taken yet
        self._whole = False  # every Block has a Seat, and every Seat a Path
        self._hops: tuple[Hop, ...] = ()  # of the last whole Route …
        self._first: tuple[Hop, ...] = ()  # … and of the first

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens drawn so far."""
        return self._journal.tokens(len(self._request.prompt), len(self._journal))

    @property
    def route(self) -> Route | None:
        """The last whole Route; None before the first."""
        return Route(self._hops) if self._hops else None

    @property
    def shape(self) -> PathShape:
        """How the data goes now. One carried boundary makes it a star."""
        lanes = self._crew.lanes
        if not all(self._direct(one, other) for one, other in pairwise(lanes)):
            return "star"
        return "ring" if self._feed.autonomous else "chain"

    async def next(self) -> Token:
        """The next token. Raises NoRoute, with ``token_ids`` so far, when the Blocks are no longer covered."""
        try:
            while not self._drawn:
                if not self._whole:
                    await self._restore()
                await self._send_tokens()
                await self._listen()
        except NoRoute as error:
            error.token_ids = self.token_ids
            raise
        self._paths.relieve(self._hops)
        return self._drawn.popleft()

    def choose(self, token_id: int) -> None:
        """The token that comes next, where the Request is guided: what was drawn last was only a proposal."""
        assert self._request.guided
        self._journal.append(len(self._journal), token_id)
        self._feed.drawn(token_id, (), self._clock.monotonic())

    async def fork(self, token_ids: Sequence[int], sampling: SamplingParams) -> Session:
        """Another Session, which begins as this one did: with ``token_ids``, of which all but the last are computed
        here. It shares their Pages where peers have room for it, and computes again where they have not.
        """
        new = Session(
            replace(self._request, sampling=sampling), self._scout, self._lines, self._budget, self._config,
            clock=self._clock, random_bytes=self._random_bytes, prefixes=self._prefixes, ends=self._ends,
        )  # fmt: skip
        new._journal.token_ids[:] = token_ids
        last = self._span.end if self._ends is None else None

        def request(lane: Lane, seat: bytes) -> Fork:
            drawing = sampling if lane.span.end == last else None
            return Fork(seat, len(token_ids) - 1, len(token_ids), drawing)

        if self._whole:
            await new._crew.fork(self._crew, request)
        new._hops, new._first = self._hops, self._first
        return new

    def close(self) -> None:
        """Give every Seat back and the Journal's bytes. Never waits; twice is once."""
        self._crew.close()
        self._naming.learn(self._journal.token_ids)
        self._journal.close()

    async def _listen(self) -> None:
        """Take in one thing that a Hop says. A failing Hop is lost."""
        if not self._whole:
            return
        try:
            lane, item = await self._mailbox.get(self._vigil.suspect_after_s)
        except Timeout:
            await self._look_around()
            return
        if lane not in self._crew.lanes or (isinstance(item, Entry) and item.epoch < self._crew.epoch):
            return
        try:
            if isinstance(item, Fault):
                raise item
            self._vigil.heard()
            await self._take(lane, item.body)
        except Fault as fault:
            self._lose(lane, fault)

    async def _take(self, lane: Lane, body: Body) -> None:
        lanes = self._crew.lanes
        index = lanes.index(lane)
        last = index == len(lanes) - 1
        match body:
            case Token() if last and self._ends is None:
                lane.check_token(body, len(self._journal))
                self._keep(body)
            case Chunk() if last and self._ends is not None:
                await self._draw(lane, self._ends, body)
            case Chunk() if not last:
                following = lanes[index + 1]
                begin = self._journal.resume(following.span.start, body.position)
                lane.check_hidden(body.hidden, body.count, body.position, begin)
                self._carry(following, self._journal.put(following.span.start, body))
            case Done(position=position):
                if index == 0:
                    self._feed.answered(position)
                else:
                    flow = self._journal.flow(lane.span.start)
                    flow.answered(position)
                    self._carry(lane, flow.take())
            case Kept(first=first, digests=digests):
                self._learn(index, first, digests)
            case Trouble(peer_id=peer_id, fault=fault):
                await self._trouble(lane, peer_id, fault)
            case _:
                raise lane.broken(f"with {type(body).__name__}, which was not asked for")

    def _keep(self, token: Token) -> None:
        """The next token is known."""
        self._drawn.append(token)
        if not self._request.guided:
            self._journal.append(token.position, token.token_id)
            self._feed.drawn(token.token_id, self._request.stop_token_ids, self._clock.monotonic())

    async def _draw(self, lane: Lane, ends: Ends, chunk: Chunk) -> None:
        """The last Hop gave its output: the Head is the client's."""
        position, drafts = len(self._journal), self._feed.drafts
        hidden = lane.check_hidden(chunk.hidden, 1 + len(drafts), chunk.position, position - 1)
        request = self._request
        history, prompt_tokens = self._journal.token_ids, len(request.prompt)
        tokens = await ends.draw(hidden, chunk.step, position, request.sampling, history, prompt_tokens, drafts)
        for token in tokens:
            self._keep(replace(token, timings=chunk.timings))

    def _learn(self, index: int, first: int, names: Sequence[bytes]) -> None:
        """A Hop named Pages that it keeps."""
        hops = self._crew.hops[: index + 1]
        if hops != self._first[: index + 1]:
            return  # what it keeps came partly from a Hop that is gone
        self._naming.note(place_of(hops[-1], hops[:-1], self._config.wire), first, names)
        self._naming.learn(self._journal.token_ids)

    async def _send_tokens(self) -> None:
        if not self._whole:
            return
        now = self._clock.monotonic()
        chunks = await asyncio.to_thread(self._feed.chunks, now) if self._computes else self._feed.chunks(now)
        if self._ends is not None:
            for index, chunk in enumerate(chunks):
                hidden = await self._ends.embed(chunk.token_ids or (), self._config.wire)
                chunks[index] = replace(chunk, token_ids=None, hidden=hidden)
        self._carry(self._crew.lanes[0], chunks)

    def _carry(self, lane: Lane, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            try:
                lane.send(chunk)
            except Fault as fault:
                self._lose(lane, fault)
                return

    async def _look_around(self) -> None:
        """Nothing was heard for a while: who does not answer at all is lost, and so is who holds everybody up too
        long.
        """
        silent = await self._vigil.look(self._crew.lanes)
        for lane in silent:
            self._lose(lane, Timeout(f"{lane.hop} does not answer"))
        if silent or not self._vigil.overdue:
            return
        self._whole = False
        await self._crew.fence()
        stuck = first_behind(self._crew.lanes, len(self._journal))
        if stuck is not None:
            self._lose(stuck, Timeout(f"{stuck.hop} made no progress for {self._vigil.waited_s:.0f} s"))
        self._paths.failures += stuck is None
        self._vigil.heard()

    async def _trouble(self, lane: Lane, peer_id: str, fault: Fault) -> None:
        """``lane`` cannot go on because of a neighbour. Lost, or only out of its reach?"""
        lanes = self._crew.lanes
        other = lanes[(lanes.index(lane) + 1) % len(lanes)]
        if other.hop.peer.peer_id != peer_id:
            raise lane.broken(f"of trouble with {peer_id[:8]}, which is not its neighbour")
        self._whole = False
        if isinstance(fault, NoSeat) or await self._lines.responsive(other.hop.peer) is None:
            self._lose(other, fault)
        else:
            self._lines.set_apart(lane.hop.peer, other.hop.peer)

    def _lose(self, lane: Lane, fault: Fault) -> None:
        if self._crew.lose(lane):
            self._blame(lane.hop, fault)

    def _blame(self, hop: Hop, fault: Fault) -> None:
        self._whole = False
        self._paths.blame(hop.peer, fault)
        self.failovers += bool(self._hops)

    async def _restore(self) -> None:
        """Until every Block has a Seat, and every Seat knows where its outputs go."""
        crew = self._crew
        while not self._whole:
            missing = uncovered(self._span, (lane.span for lane in crew.lanes))
            detours = await self._paths.plan(missing) if missing else ()
            self._journal.halt()
            await crew.build([hop for detour in detours for hop in detour.hops], self._opening)
            if not crew.covers(self._span):
                if not self._hops:
                    crew.close()  # all or nothing: to hold Seats and wait for more is how Sessions block each other
                continue
            self._whole = True
            self._lead()
        self._paths.settle()
        self._vigil.heard()
        self._hops = crew.hops
        self._first = self._first or crew.hops

    def _lead(self) -> None:
        """Tell every Seat where it stands and where its outputs go."""
        lanes, journal = self._crew.lanes, self._journal
        direct = [self._direct(one, other) for one, other in pairwise(lanes)] + [False]
        held = [None if carries else journal.held(lane.span.end) for lane, carries in zip(lanes, direct, strict=True)]
        stands = settle(lanes, held, len(journal) - 1)
        if not self._hops:
            self.cached_tokens = min(stand.position for stand in stands)
        journal.keep(lane.span.end for lane, carries in zip(lanes[:-1], direct, strict=False) if not carries)
        self._crew.moved()
        self._feed.step += 1
        feed = lanes[0].neighbour if self._ring and self._direct(lanes[-1], lanes[0]) else None
        self._feed.autonomous = feed is not None
        self._feed.turn(stands[0].position, lanes[0].max_chunk_tokens)
        after = zip([*lanes[1:], lanes[0]], direct, strict=True)
        onward = [lane.neighbour if carries else None for lane, carries in after]
        for lane, stand, following in zip(lanes, stands, onward, strict=True):
            fed = feed if lane is lanes[-1] else None
            try:
                lane.send(Path(stand.position, following, stand.wanted, fed, len(journal), self._feed.step))
            except Fault as fault:
                self._lose(lane, fault)
                return
        for lane, stand, before, carries in zip(lanes[1:], stands[1:], stands, direct, strict=False):
            if not carries and self._whole:
                flow = journal.flow(lane.span.start)
                flow.turn(before.wanted, stand.position, self._feed.step, lane.max_chunk_tokens, keeps=True)
                self._carry(lane, flow.take())
        self._feed.step += 1

    def _direct(self, one: Lane, other: Lane) -> bool:
        """Whether ``one`` may send to ``other`` without the client."""
        return self._config.shape != "star" and not self._lines.apart(one.hop.peer, other.hop.peer)

    def _opening(self, hop: Hop, route: Sequence[Hop]) -> Open:
        """What ``hop``, which is part of ``route``, is asked for."""
        draws = hop.span.end == self._span.end and self._ends is None
        drafts = self._config.draft_tokens if draws and self._ring else 0
        opening = self._request.opening(hop, len(route), self._config.wire, self._journal.token_ids, draws, drafts)
        place = place_of(hop, route[: route.index(hop)], self._config.wire)
        prefix = self._naming.known(place, self._journal.token_ids)
        return replace(opening, embedded=self._ends is not None, prefix=prefix)
