"""The probe: how long this Peer takes for one Block of a decode step, measured through the books and the runner."""

from __future__ import annotations

import statistics

from peer.engine import Computing, Engine
from peer.scheduler import Work
from peer.seats import Seats
from proto.messages import SESSION_BYTES, Chunk, Hidden, Open, Want, WireDType
from swarm.clock import Clock
from swarm.errors import Fault

WARM_UP_STEPS = 1
MEASURED_STEPS = 5

_SESSION = bytes(SESSION_BYTES)
_LINK = "probe"  # no Link of the desk: those are numbers


async def measure_block_s(seats: Seats, engine: Engine, runner: Computing, hidden_size: int, clock: Clock) -> float:
    """Median seconds of one Session's decode step, per Block. Raises the Fault if a step fails: nothing would work."""
    terms = seats.terms
    steps = min(WARM_UP_STEPS + MEASURED_STEPS, seats.kv_tokens, terms.max_positions)
    seats.open(_SESSION, 0, _LINK, Open(terms.model.fingerprint, terms.profile, terms.span, steps, 0))
    seat = seats.find(_SESSION, _LINK)
    took: list[float] = []
    try:
        for step in range(steps):
            chunk = _chunk(step, hidden_size, token_ids=terms.span.start == 0)
            works = seats.house([Work(seat, chunk)], lambda _: False).go
            begin = clock.monotonic()
            (answer,) = await engine.call(runner.run, works)
            took.append(clock.monotonic() - begin)
            if isinstance(answer, Fault):
                raise answer
    finally:
        seats.close(seat)
    return statistics.median(took[WARM_UP_STEPS:] or took) / len(terms.span)


def _chunk(step: int, hidden_size: int, *, token_ids: bool) -> Chunk:
    if token_ids:
        return Chunk(step, step, 1, Want.HIDDEN, token_ids=(0,))
    ones = Hidden(WireDType.F32, 1, hidden_size, b"\x00\x00\x80\x3f" * hidden_size)
    return Chunk(step, step, 1, Want.HIDDEN, hidden=ones)
