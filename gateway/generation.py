"""Generation: the answers to one request, made at once, heard in the order in which their Pieces come.

Each answer is an AsyncStream, read by a task of its own into one bounded queue: who reads slowly is not run ahead of.
Leaving the Generation, for whatever reason, cancels the tasks, which closes the streams and with them the Sessions.
``abort`` ends it with an error from outside: a deadline, or a gateway that has to go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from client.async_client import AsyncClient
from client.result import Piece, Result
from client.sampling import Options
from gateway.errors import ApiError, of_error
from gateway.metrics import Metrics
from swarm.clock import Clock
from swarm.errors import ShoalError

AHEAD = 64  # Pieces of all answers that wait for the reader


@dataclass(frozen=True, slots=True)
class Job:
    """One call of the client."""

    prompt: tuple[int, ...]
    options: Options


Event = tuple[int, Piece | Result]  # of which Job


class Generation:
    """``async with`` it, then ``next`` until None. ``begun``: when the request came, monotonic seconds."""

    def __init__(
        self, client: AsyncClient, jobs: Sequence[Job], deadline_s: float, *,
        metrics: Metrics, model: str, begun: float, clock: Clock,
    ):  # fmt: skip
        self._client, self._jobs, self._deadline_s = client, jobs, deadline_s
        self._metrics, self._model, self._begun, self._clock = metrics, model, begun, clock
        self._queue: asyncio.Queue[Event | ApiError | BaseException] = asyncio.Queue(AHEAD)
        self._tasks: list[asyncio.Task[None]] = []
        self._left = len(jobs)
        self._ended = False
        self._timer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Generation:
        self._tasks = [asyncio.create_task(self._make(index)) for index in range(len(self._jobs))]
        self._timer = asyncio.create_task(self._expire())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks, *([self._timer] if self._timer is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def next(self) -> Event | None:
        """None when all answers are whole. Raises ApiError; nothing comes after it."""
        if self._ended or not self._left:
            return None
        item = await self._queue.get()
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        if isinstance(item[1], Result):
            self._left -= 1
        return item

    def abort(self, error: ApiError) -> None:
        """Give up now: the Sessions are closed, and ``error`` is the next thing to be heard."""
        for task in self._tasks:
            task.cancel()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(error)

    async def _make(self, index: int) -> None:
        job = self._jobs[index]
        result, cancelled = None, False
        stream = self._client.stream(job.prompt, **job.options)
        last, failovers, route = self._begun, 0, None
        try:
            async with stream:
                async for piece in stream:
                    now = self._clock.monotonic()
                    (self._metrics.first_token if last == self._begun else self._metrics.inter_token)(
                        self._model, now - last
                    )
                    self._metrics.token(self._model, len(piece.token_ids))
                    last, gained = now, piece.failovers - failovers
                    failovers = piece.failovers
                    if gained > 0:
                        self._metrics.failovers(gained)
                    if route is not None and piece.route != route:
                        self._metrics.rebuilt()
                    route = piece.route
                    await self._queue.put((index, piece))
                result = stream.result
            if result.completion_tokens and last == self._begun:  # several at once come without Pieces
                answers = (result, *result.alternatives)
                self._metrics.first_token(self._model, result.ttft_s)
                self._metrics.token(self._model, sum(answer.completion_tokens for answer in answers))
            for answer in (result, *result.alternatives):
                self._metrics.finished(self._model, answer)
            await self._queue.put((index, result))
        except asyncio.CancelledError:
            cancelled = True
            raise
        except ShoalError as error:
            await self._queue.put(of_error(error))
        except Exception as error:  # the reader is to hear of it, not to wait for ever  # noqa: BLE001
            await self._queue.put(error)
        finally:
            if result is None:
                self._metrics.lost(self._model, cancelled=cancelled)

    async def _expire(self) -> None:
        await self._clock.sleep(self._deadline_s)
        self.abort(ApiError(504, f"the answer was not whole after {self._deadline_s:g} s", code="deadline_exceeded"))
