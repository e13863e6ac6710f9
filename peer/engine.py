"""The engine: the only door to the one compute thread. Async inbox on this side, a runner on the other.

    take what is ready → the scheduler makes a Batch → the runner computes it → the outputs are handed out

The scheduler hears how long each Batch took. Knows no Links; who has Pages, and what is to be copied for that, it is
told by a ``House``. What the runner raises, faults the Seats of its Batch; the engine goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

import structlog

from peer.compute import ComputeThread
from peer.housing import Housed, Job, Pager
from peer.meter import Meter
from peer.scheduler import Batch, Scheduler, Work
from peer.seat import Answer, Seat
from proto.messages import Chunk
from swarm.clock import Clock, SystemClock
from swarm.errors import Fault, Internal

P = ParamSpec("P")
T = TypeVar("T")

NO_ROOM_S = 0.05  # before a Batch that found no Pages at all is tried again

log = structlog.get_logger("peer.engine")


@dataclass(frozen=True, slots=True)
class Output:
    """What became of a Work, and where its time went."""

    work: Work[Seat]
    answer: Answer | Fault
    queue_s: float  # from its arrival, or from when the part before it was taken, to its Batch
    compute_s: float  # of the whole Batch


class Computing(Pager, Protocol):
    def run(self, works: Sequence[Work[Seat]]) -> list[Answer | Fault]:
        """One answer or Fault for each work, in order. Called on the compute thread, one Batch at a time."""
        ...


class House(Protocol):
    def __call__(self, works: Sequence[Work[Seat]], waits: Callable[[Seat], bool]) -> Housed:
        """Which of a Batch have the Pages they need, and what is to be copied first."""
        ...


class Engine:
    """For the event loop. ``submit`` and ``discard`` never wait; ``outputs`` and ``call`` do."""

    def __init__(self, scheduler: Scheduler[Seat], clock: Clock | None = None, meter: Meter | None = None):
        self._scheduler = scheduler
        self._meter = meter or Meter()
        self._clock = clock or SystemClock()
        self._ready = asyncio.Event()
        self._thread = ComputeThread()
        self._running_tokens = 0
        self._running: set[Seat] = set()  # whose Chunks are computed now, and are still wanted

    @property
    def queue_tokens(self) -> int:
        """Tokens waiting for the compute thread or on it."""
        return self._scheduler.queue_tokens + self._running_tokens

    def submit(self, seat: Seat, chunk: Chunk) -> None:
        """Queue an accepted Chunk. What may pile up is bounded by what the Seats have reserved."""
        request = seat.request
        self._scheduler.add(
            seat, chunk, seat.client, request.num_hops, self._clock.monotonic(), leads=request.span.start == 0
        )
        self._ready.set()

    def discard(self, seat: Seat) -> None:
        """Forget what a Seat that is closed or rolled back has queued; what is computed of it now does not come out."""
        self._scheduler.discard(seat)
        self._running.discard(seat)
        self._ready.set()  # somebody may have waited for this one

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something else on the compute thread: loading, the probe."""
        return await self._thread.call(function, *args, **kwargs)

    async def outputs(self, runner: Computing, house: House) -> AsyncIterator[list[Output]]:
        """The outputs of one Batch after the other, for ever."""
        while True:
            begin = self._clock.monotonic()
            batch = self._scheduler.next_batch(begin)
            if batch is None:
                await self._wait(self._scheduler.look_again_s)
                continue
            housed = house(batch.works, self._scheduler.waits)
            for work in housed.stay:
                request = work.seat.request
                self._scheduler.put_back(work, work.seat.client, request.num_hops, leads=request.span.start == 0)
            if not housed.go:
                await self.call(_copy, runner, housed.jobs)
                await self._wait(NO_ROOM_S)
                continue
            batch = Batch(housed.go)
            self._running_tokens, self._running = batch.num_tokens, {work.seat for work in batch.works}
            answers, seconds = await self.call(_timed, runner, batch.works, housed.jobs, self._clock)
            self._running_tokens = 0
            yield [
                Output(work, answer, begin - work.since, seconds)
                for work, answer in zip(batch.works, answers, strict=True)
                if work.seat in self._running
            ]
            self._running = set()
            self._observe(batch, answers, begin, seconds)

    def _observe(self, batch: Batch[Seat], answers: Sequence[Answer | Fault], begin: float, seconds: float) -> None:
        """Keep the books of a Batch, once its outputs are on their way: the next Hop waits for those."""
        rows, waited = batch.num_decode_rows, [begin - work.since for work in batch.works]
        self._meter.observe_batch(len(batch.works), batch.num_tokens - rows, rows, waited, seconds)
        if not all(isinstance(answer, Fault) for answer in answers):
            self._scheduler.observe(batch, seconds)

    async def _wait(self, seconds: float | None) -> None:
        """Returns when something has changed, or after ``seconds``."""
        self._ready.clear()
        if seconds is None:
            await self._ready.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ready.wait()

    def close(self) -> None:
        """Let the compute thread end after what it is at."""
        self._thread.close()


def _timed(
    runner: Computing, works: Sequence[Work[Seat]], jobs: Sequence[Job], clock: Clock
) -> tuple[Sequence[Answer | Fault], float]:
    """The answers and the seconds they took; measured here, for the thread may have had something else to do first."""
    begin = clock.monotonic()
    answers = _guarded(runner, works, jobs)
    return answers, clock.monotonic() - begin


def _copy(runner: Pager, jobs: Sequence[Job]) -> None:
    """All of them, whatever fails: they are of different Seats. The first failure is raised then."""
    failure: Exception | None = None
    for job in jobs:
        try:
            job(runner)
        except Exception as error:
            log.exception("pages were not copied")
            failure = failure or error
    if failure is not None:
        raise failure


def _guarded(runner: Computing, works: Sequence[Work[Seat]], jobs: Sequence[Job]) -> Sequence[Answer | Fault]:
    try:
        _copy(runner, jobs)
        answers = runner.run(works)
        if len(answers) != len(works):
            raise AssertionError(f"{len(answers)} answers came for {len(works)} works")
        return answers
    except Exception as error:
        log.exception("batch failed", seats=len(works), tokens=sum(work.chunk.count for work in works))
        return [Internal(f"this peer failed while computing ({type(error).__name__}); use another")] * len(works)
