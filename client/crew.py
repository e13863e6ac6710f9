"""Crew: the Lanes of one Session. Opens Seats, fences them, forks them and gives them back; what a lost one means is
the Session's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from client.config import ClientConfig
from client.lane import Lane, Lines, Shape
from client.mailbox import Mailbox
from proto.messages import SESSION_BYTES, Fork, Open
from swarm.errors import Fault
from swarm.route import Hop
from swarm.span import Span

SERIAL_BYTES = 4
GRAMMAR_S = 10.0  # more that a Hop may take for its answer, where it has to compile one
NAME_BYTES = SESSION_BYTES - SERIAL_BYTES

Blame = Callable[[Hop, Fault], None]


class Crew:
    """``lanes`` in order of their Blocks. ``name`` is the Session's, with a serial number for each Seat behind it."""

    def __init__(self, name: bytes, lines: Lines, shape: Shape, config: ClientConfig, mailbox: Mailbox, blame: Blame):
        self.lanes: list[Lane] = []
        self.epoch = 0
        self._name, self._lines, self._shape, self._config = name, lines, shape, config
        self._mailbox, self._blame = mailbox, blame
        self._seats = 0  # taken so far
        self._agreed = False  # all Lanes said how far they are, in this epoch, and nothing was sent since

    @property
    def hops(self) -> tuple[Hop, ...]:
        return tuple(lane.hop for lane in self.lanes)

    def covers(self, span: Span) -> bool:
        return bool(self.lanes) and sum(len(lane.span) for lane in self.lanes) == len(span)

    async def build(self, hops: Sequence[Hop], opening: Callable[[Hop, Sequence[Hop]], Open]) -> None:
        """Open Seats at ``hops`` and fence the others, all at once; who fails is not among the Lanes afterwards.

        ``opening`` says what a Hop is asked for; it is given the whole Route too.
        """
        if self._agreed and not hops:
            return
        survivors = tuple(self.lanes)
        self.epoch += 1 if self._seats else 0
        route = sorted((*hops, *self.hops), key=lambda hop: hop.span)
        async with asyncio.TaskGroup() as group:
            for hop in hops:
                group.create_task(self._enter(hop, opening(hop, route)))
            for lane in survivors:
                group.create_task(self._advance(lane))
        self.lanes.sort(key=lambda lane: lane.span)
        self._agreed = True

    async def fence(self) -> None:
        """Raise the epoch of all; who does not follow is lost."""
        self.epoch += 1
        async with asyncio.TaskGroup() as group:
            for lane in tuple(self.lanes):
                group.create_task(self._advance(lane))
        self._agreed = True

    async def fork(self, other: Crew, request: Callable[[Lane, bytes], Fork]) -> None:
        """Take Seats that begin as those of ``other`` did; at a Hop where that cannot be had, none."""
        self.epoch = other.epoch

        async def take(lane: Lane) -> None:
            seat = self._next_seat()
            try:
                forked = await lane.fork(seat, request(lane, seat), self._mailbox, self._config.open_timeout_s)
            except Fault:
                return  # it will be opened like any other
            self.lanes.append(forked)

        try:
            async with asyncio.TaskGroup() as group:
                for lane in tuple(other.lanes):
                    group.create_task(take(lane))
        except BaseException:
            self.close()  # whoever asked has left, and nobody else knows of these Seats
            raise
        self.lanes.sort(key=lambda lane: lane.span)
        self._agreed = True

    def moved(self) -> None:
        """Something was sent: where the Lanes are is no longer known."""
        self._agreed = False

    def lose(self, lane: Lane) -> bool:
        """Give a Lane up. False: it was already."""
        if lane not in self.lanes:
            return False
        self.lanes.remove(lane)
        lane.close()
        return True

    def close(self) -> None:
        """Give every Seat back. Never waits; twice is once."""
        for lane in self.lanes:
            lane.close()
        self.lanes.clear()

    def _next_seat(self) -> bytes:
        self._seats += 1
        return self._name + self._seats.to_bytes(SERIAL_BYTES, "big")

    async def _enter(self, hop: Hop, opening: Open) -> None:
        sampling = opening.sampling
        more_s = GRAMMAR_S if sampling is not None and sampling.grammar is not None else 0.0
        try:
            lane = await Lane.open(
                self._lines, hop, self._next_seat(), self.epoch, opening, self._shape, self._mailbox,
                max_chunk_tokens=self._config.prefill_chunk, timeout_s=self._config.open_timeout_s + more_s,
            )  # fmt: skip
        except Fault as fault:
            self._blame(hop, fault)
            return
        self.lanes.append(lane)

    async def _advance(self, lane: Lane) -> None:
        try:
            await lane.advance(self.epoch, self._config.open_timeout_s)
        except Fault as fault:
            if self.lose(lane):
                self._blame(lane.hop, fault)
