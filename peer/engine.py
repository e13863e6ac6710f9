"""The engine: the only door to the one compute thread. Async inbox on this side, a runner on the other.

    take what is ready → the scheduler makes a Batch → the runner computes it → the outputs are handed out

Knows nothing of Links or Pages. What the runner raises, faults the Seats of its Batch; the engine goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

import structlog

from peer.scheduler import Scheduler, Work
from peer.seat import Answer, Seat
from proto.messages import Chunk
from swarm.errors import Fault, Internal

P = ParamSpec("P")
T = TypeVar("T")
Output = tuple[Work[Seat], Answer | Fault]

log = structlog.get_logger("peer.engine")


class Computing(Protocol):
    def run(self, works: Sequence[Work[Seat]]) -> list[Answer | Fault]:
        """One answer or Fault for each work, in order. Called on the compute thread, one Batch at a time."""
        ...


class Engine:
    """``submit`` and ``discard`` are for the event loop; nothing but ``outputs`` ever waits."""

    def __init__(self, scheduler: Scheduler[Seat]):
        self._scheduler = scheduler
        self._ready = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._running_tokens = 0

    @property
    def queue_tokens(self) -> int:
        """Tokens waiting for the compute thread or on it."""
        return self._scheduler.queue_tokens + self._running_tokens

    def submit(self, seat: Seat, chunk: Chunk) -> None:
        """Queue an accepted Chunk. What may pile up is bounded by what the Seats have reserved."""
        self._scheduler.add(seat, chunk)
        self._ready.set()

    def discard(self, seat: Seat) -> None:
        """Forget what a closed Seat has queued; a Chunk that is computed now still comes out."""
        self._scheduler.discard(seat)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something else on the compute thread: loading, the probe."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    async def outputs(self, runner: Computing) -> AsyncIterator[list[Output]]:
        """The outputs of one Batch after the other, for ever."""
        while True:
            batch = self._scheduler.next_batch()
            if batch is None:
                self._ready.clear()
                await self._ready.wait()
                continue
            self._running_tokens = batch.num_tokens
            answers = await self.call(_guarded, runner, batch.works)
            self._running_tokens = 0
            yield list(zip(batch.works, answers, strict=True))

    def close(self) -> None:
        """Let the compute thread end after what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _guarded(runner: Computing, works: Sequence[Work[Seat]]) -> Sequence[Answer | Fault]:
    try:
        answers = runner.run(works)
        if len(answers) != len(works):
            raise AssertionError(f"{len(answers)} answers came for {len(works)} works")
        return answers
    except Exception as error:
        log.exception("batch failed", seats=len(works), tokens=sum(work.chunk.count for work in works))
        return [Internal(f"this peer failed while computing ({type(error).__name__}); use another")] * len(works)
