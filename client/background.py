"""Background: one event loop in one thread, for callers that have none or another one.

gRPC channels and the DHT node belong to the loop they were made on; here is the one they live on, whoever calls from
wherever.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, TypeVar

from swarm.errors import UsageError

T = TypeVar("T")

UNWIND_S = 10.0  # for an interrupted call to give its Seats back


class Background:
    """Starts its thread when made; ``close`` ends it. The thread does not keep the interpreter alive."""

    def __init__(self, name: str):
        self._open = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` there and wait for it here. An interrupt (Ctrl-C) cancels it and waits for it to unwind."""
        future = self._start(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise self._overtaken() from None
        except BaseException:
            if not future.done():
                future.cancel()
                self._settle()
            raise

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` there and await it on the caller's own loop."""
        future = self._start(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._overtaken() from None

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """``items``, produced there, as a plain generator here. Closing it closes them."""
        taps = _Taps(items)
        try:
            while (item := self.run(taps.next())) is not None:
                yield item
        finally:
            if self._open:
                self.run(taps.close())

    async def aiterate(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """``items``, produced there, on the caller's own loop."""
        taps = _Taps(items)
        try:
            while (item := await self.call(taps.next())) is not None:
                yield item
        finally:
            if self._open:
                await self.call(taps.close())

    def close(self) -> None:
        """Cancel what still runs there and end the thread. Twice is once."""
        if self._open:
            self._open = False
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        if not self._open or threading.current_thread() is self._thread:
            work.close()
            raise UsageError(
                "this client is closed" if not self._open else "a client's own thread cannot wait for itself"
            )
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @staticmethod
    def _overtaken() -> UsageError:
        return UsageError("this client was closed while a call was under way")

    def _settle(self) -> None:
        """Wait until what was just cancelled has run its course."""
        try:
            asyncio.run_coroutine_threadsafe(_others_done(), self._loop).result(UNWIND_S)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            pass

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


class _Taps:
    """One consumer of an async generator that another loop runs: a cancelled ``next`` never overlaps ``close``."""

    def __init__(self, items: AsyncGenerator[Any, None]):
        self._items = items
        self._turn = asyncio.Lock()

    async def next(self) -> Any:
        async with self._turn:
            return await anext(self._items, None)

    async def close(self) -> None:
        async with self._turn:
            await self._items.aclose()


async def _others_done() -> None:
    """Ends when the tasks that were being cancelled have ended."""
    me = asyncio.current_task()
    leaving = [task for task in asyncio.all_tasks() if task is not me and task.cancelling()]
    if leaving:
        await asyncio.wait(leaving, timeout=UNWIND_S)
