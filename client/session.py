"""Session: one generation along a Route; it survives the loss of any Hop.

    plan → open all Hops at once → Moves (prefill, steps, replays: client/moves.py) → tokens
             ↑                       │ a Fault: the Hop is lost
             └── detour over the gap ┘

State first: what a lost Hop means is decided by positions and the Journal, never by what was in flight. A Seat is
never asked to repeat itself; a new one is filled from the Journal. The epoch rises with every repair and fences off
whatever is still under way.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from client.config import ClientConfig
from client.journal import Budget, Journal
from client.lane import Lane, Lines, Shape
from client.moves import Move, gaps, next_move
from client.pathfinder import Pathfinder, Scout
from proto.frames import encode
from proto.messages import SESSION_BYTES, Chunk, Entry, Open, Token, Want
from swarm.clock import Clock, SystemClock
from swarm.errors import Fault, NoRoute, UsageError
from swarm.peerinfo import ModelRef
from swarm.route import Hop, Route
from swarm.sampling import SamplingParams
from swarm.span import Span

_SERIAL_BYTES = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What a Session is to do. ``prompt`` is not empty."""

    model: ModelRef
    profile: str
    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingParams
    hidden_size: int
    vocab_size: int

    @property
    def kv_tokens(self) -> int:
        return len(self.prompt) + self.max_new_tokens


def check_sendable(request: Request) -> None:
    """Raises UsageError for a Request that fits no message. What cannot be sent would break the Link, which other
    Sessions share, and look like the peer's fault.
    """
    opening = Open(
        request.model.fingerprint, request.profile, Span(0, request.model.num_blocks), request.kv_tokens,
        len(request.prompt), sampling=request.sampling,
    )  # fmt: skip
    chunk = Chunk(0, 0, len(request.prompt), Want.TOKEN, token_ids=request.prompt)
    try:
        encode([Entry(bytes(SESSION_BYTES), 0, body) for body in (opening, chunk)])
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"this request fits no message: {error}") from error


class Session:
    """``async with`` it, then ``await next()`` up to ``max_new_tokens`` times. Leaving frees every Seat."""

    def __init__(
        self, request: Request, scout: Scout, lines: Lines, budget: Budget, config: ClientConfig,
        *, clock: Clock | None = None, random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ):  # fmt: skip
        check_sendable(request)
        self.failovers = 0  # Hops lost since the first Route stood
        self._request, self._lines, self._config = request, lines, config
        self._journal = Journal(request.prompt, budget)
        self._name = random_bytes(SESSION_BYTES - _SERIAL_BYTES)
        pace = self._name[0] / 256
        self._paths = Pathfinder(scout, request.profile, request.kv_tokens, config, clock or SystemClock(), pace)
        self._shape = Shape(request.hidden_size, request.vocab_size, config.wire)
        self._span = Span(0, request.model.num_blocks)
        self._lanes: list[Lane] = []
        self._epoch = 0
        self._seats = 0  # taken so far
        self._hops: tuple[Hop, ...] = ()  # of the last whole Route

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

    async def next(self) -> Token:
        """The next token. Raises NoRoute, with ``token_ids`` so far, when the Blocks are no longer covered."""
        try:
            while True:
                await self._restore()
                move = next_move(self._lanes, self._journal)
                token = await self._make(move)
                if token is not None:
                    self._paths.relieve(self._hops)
                    return token
        except NoRoute as error:
            error.token_ids = self.token_ids
            raise

    def close(self) -> None:
        """Give every Seat back and the Journal's bytes. Never waits; twice is once."""
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()
        self._journal.close()

    async def _make(self, move: Move) -> Token | None:
        """Carry a Move out and take in what came of it; a Token where it drew one. A failing Hop is lost."""
        lane, config = self._lanes[move.place], self._config
        try:
            timeout_s = config.step_timeout_s - config.probe_s + config.token_timeout_s * move.count
            answer = await lane.take(self._chunk(move), timeout_s, config.busy_timeout_s)
        except Fault as fault:
            self._lose(lane, fault)
            return None
        if isinstance(answer, Token):
            self._journal.append(answer.position, answer.token_id)
        elif isinstance(answer, Chunk) and answer.hidden is not None:
            self._journal.put(lane.span.end, answer.position, answer.hidden)
        self._journal.shed((each.span.start, each.position) for each in self._lanes)
        return answer if isinstance(answer, Token) else None

    def _chunk(self, move: Move) -> Chunk:
        """The Move as a message. Steps rise at every Seat, and one pass along the Route has one number at all Hops."""
        lane = self._lanes[move.place]
        if move.place == 0:
            step = 1 + max(each.last_step for each in self._lanes)
            tokens = self._journal.tokens(move.position, move.end)
            return Chunk(step, move.position, move.count, move.want, token_ids=tokens)
        step = max(lane.last_step + 1, self._lanes[move.place - 1].last_step)
        hidden = self._journal.hidden(lane.span.start, move.position, move.end)
        return Chunk(step, move.position, move.count, move.want, hidden=hidden)

    def _lose(self, lane: Lane, fault: Fault) -> None:
        if lane in self._lanes:
            self._lanes.remove(lane)
        lane.close()
        self._paths.blame(lane.hop.peer, fault)
        if self._hops:
            self.failovers += 1

    async def _restore(self) -> None:
        """Until every Block has a Seat. The first time that is opening the Route; later, repairing it."""
        while missing := gaps(self._span, self._lanes, self._journal):
            for gap in missing:
                self._journal.drop_incomplete(gap)
                self._leave(gap)
            detours = await self._paths.plan(missing)
            await self._build([hop for detour in detours for hop in detour.hops])
            if not self._hops and gaps(self._span, self._lanes, self._journal):
                # All or nothing: to hold Seats and wait for more is how Sessions would block each other.
                self._leave(self._span)
        self._paths.settle()
        hops = tuple(lane.hop for lane in self._lanes)
        if hops != self._hops:
            self._hops = hops
            self._journal.keep(hop.span.start for hop in hops)

    async def _build(self, hops: Sequence[Hop]) -> None:
        """Open ``hops`` and fence the survivors, all at once; who fails is not among the Lanes afterwards."""
        survivors = tuple(self._lanes)
        self._epoch += 1 if self._seats else 0
        async with asyncio.TaskGroup() as group:
            for hop in hops:
                group.create_task(self._enter(hop))
            for lane in survivors:
                group.create_task(self._fence(lane))
        self._lanes.sort(key=lambda lane: lane.span)

    async def _enter(self, hop: Hop) -> None:
        request, last = self._request, hop.span.end == self._span.end
        self._seats += 1
        seat = self._name + self._seats.to_bytes(_SERIAL_BYTES, "big")  # one name a Session, one serial a Seat
        opening = Open(
            fingerprint=request.model.fingerprint,
            profile=request.profile,
            span=hop.span,
            max_tokens=request.kv_tokens,
            prompt_tokens=len(request.prompt),
            wire=self._config.wire,
            sampling=request.sampling if last else None,
            history=tuple(self._journal.token_ids) if last and request.sampling.needs_history else (),
        )
        try:
            lane = await Lane.open(
                self._lines, hop, seat, self._epoch, opening, self._shape,
                max_chunk_tokens=self._config.prefill_chunk, timeout_s=self._config.open_timeout_s,
            )  # fmt: skip
        except Fault as fault:
            self._paths.blame(hop.peer, fault)
            return
        self._lanes.append(lane)

    async def _fence(self, lane: Lane) -> None:
        try:
            await lane.advance(self._epoch, self._config.open_timeout_s)
        except Fault as fault:
            self._lose(lane, fault)

    def _leave(self, span: Span) -> None:
        """Give back the Seats inside ``span``, nobody being to blame."""
        for lane in [lane for lane in self._lanes if span.covers(lane.span)]:
            self._lanes.remove(lane)
            lane.close()
