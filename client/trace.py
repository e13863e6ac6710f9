"""Where the time of a generation went, as plain values: a StepTrace a step, a Trace for all, its Stretches in a row.

Peers report durations by their own clocks, never moments, so nothing here compares two machines' clocks. What the
client's clock saw and no Hop accounts for is ``network_s``: trips, queues of the transport, and the client's own work.
Only its sum is known; where a picture needs it in parts, ``layout`` spreads it evenly over the trips and says which.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import accumulate
from statistics import median

from client.config import PathShape
from proto.messages import Token
from swarm.route import Route
from swarm.span import Span


@dataclass(frozen=True, slots=True)
class HopTrace:
    """One Hop's part of a step, by its own clock. ``compute_s`` is that of the whole Batch."""

    peer: str
    blocks: Span
    queue_s: float
    compute_s: float

    @property
    def busy_s(self) -> float:
        return self.queue_s + self.compute_s


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step, from the token before it (for the first: from sending) to the last of its ``tokens``.

    ``hops`` is empty where the Hops did not say, or not all of them: then nobody knows where the time went.
    """

    step: int
    tokens: int
    total_s: float  # by the client's clock
    hops: tuple[HopTrace, ...]

    @property
    def busy_s(self) -> float:
        return sum(hop.busy_s for hop in self.hops)

    @property
    def network_s(self) -> float:
        """What no Hop accounts for; 0 where they report more than the client saw, as Hops that work ahead do."""
        return max(0.0, self.total_s - self.busy_s)

    @property
    def length_s(self) -> float:
        """Of the step's picture: ``total_s``, or what the Hops report where that is more."""
        return max(self.total_s, self.busy_s)


@dataclass(frozen=True, slots=True)
class Trace:
    """All steps of one generation, oldest first.

    The first is the prompt's. Where that went in several Chunks, the Hops speak of the last, so the others' computing
    counts as network there: a reason to leave it out of medians.
    """

    steps: tuple[StepTrace, ...]
    shape: PathShape

    @property
    def decodes(self) -> tuple[StepTrace, ...]:
        """The steps after the prompt whose time is accounted for, along the Route that most of them took.

        Where there is none, the prompt's own step.
        """
        traced = [step for step in self.steps if step.hops]
        ours = [step for step in traced if step is not self.steps[0]] or traced
        routes = Counter(_route(step) for step in ours)
        return tuple(step for step in ours if _route(step) == routes.most_common(1)[0][0])

    def median_step(self) -> StepTrace | None:
        """A step that happened, with as many slower as faster ones (of two: the faster), so that its parts add up."""
        steps = sorted(self.decodes, key=lambda step: step.total_s)
        return steps[(len(steps) - 1) // 2] if steps else None

    def median_hops(self) -> tuple[HopTrace, ...]:
        """For every Hop, the median of its queueing and that of its computing; they need not be of the same step."""
        columns = zip(*(step.hops for step in self.decodes), strict=True)
        return tuple(
            replace(hops[0], queue_s=median(h.queue_s for h in hops), compute_s=median(h.compute_s for h in hops))
            for hops in columns
        )


class Tracer:
    """Tokens as they come → Trace. The clock's readings are given to it."""

    def __init__(self, now_s: float):
        """``now_s``: when the prompt was sent."""
        self._steps: list[StepTrace] = []
        self._begun_s = self._heard_s = now_s  # when the present step began, and its last token came

    def hear(self, token: Token, route: Route, now_s: float) -> None:
        """A token came, by ``route`` as it is now. Further tokens of the same step, which were drafted, lengthen it."""
        last = self._steps[-1] if self._steps else None
        if last is not None and last.step == token.step:
            total_s = now_s - self._begun_s
            self._steps[-1] = replace(
                last, tokens=last.tokens + 1, total_s=total_s, hops=last.hops or _hops(token, route)
            )
        else:
            self._begun_s = self._heard_s
            self._steps.append(StepTrace(token.step, 1, now_s - self._begun_s, _hops(token, route)))
        self._heard_s = now_s

    def trace(self, shape: PathShape) -> Trace:
        """All that was heard so far."""
        return Trace(tuple(self._steps), shape)


class Kind(Enum):
    """What a stretch of time was spent on."""

    NETWORK = "network"
    QUEUE = "queue"
    COMPUTE = "compute"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a step, ``start_s`` after its begin. ``hop`` is an index; of a trip, the Hop that it leads to, or
    from which it returns to the client.
    """

    kind: Kind
    hop: int
    start_s: float
    end_s: float


def num_trips(shape: PathShape, num_hops: int) -> int:
    """One-way trips from a token to the next: a star passes the client after every Hop, a ring not at all."""
    return {"star": 2 * num_hops, "chain": num_hops + 1, "ring": num_hops}[shape]


def layout(step: StepTrace, shape: PathShape) -> tuple[Stretch, ...]:
    """A step as stretches without gaps from 0 to ``length_s``; every trip takes the same share of ``network_s``."""
    if not step.hops:
        return ()
    last = len(step.hops) - 1
    trip_s = step.network_s / num_trips(shape, len(step.hops))
    parts: list[tuple[Kind, int, float]] = []
    for index, hop in enumerate(step.hops):
        parts += (Kind.NETWORK, index, trip_s), (Kind.QUEUE, index, hop.queue_s), (Kind.COMPUTE, index, hop.compute_s)
        if shape == "star" or (shape == "chain" and index == last):
            parts.append((Kind.NETWORK, index, trip_s))
    ends = [min(end, step.length_s) for end in accumulate(duration_s for _, _, duration_s in parts)]
    ends[-1] = step.length_s  # not a rounding error less, nor more
    starts = [0.0, *ends[:-1]]
    return tuple(Stretch(kind, hop, start, end) for (kind, hop, _), start, end in zip(parts, starts, ends, strict=True))


def _hops(token: Token, route: Route) -> tuple[HopTrace, ...]:
    """The token's timings with the Peers that they are of; nothing where they are not those of this Route."""
    timings = token.timings
    if [timing.start for timing in timings] != [hop.span.start for hop in route.hops]:
        return ()
    if not all(math.isfinite(seconds) and seconds >= 0 for t in timings for seconds in (t.queue_s, t.compute_s)):
        return ()
    return tuple(
        HopTrace(hop.peer.peer_id, hop.span, timing.queue_s, timing.compute_s)
        for hop, timing in zip(route.hops, timings, strict=True)
    )


def _route(step: StepTrace) -> Sequence[tuple[str, Span]]:
    return tuple((hop.peer, hop.blocks) for hop in step.hops)
