"""One loop in one thread, used from other threads and other loops, and left cleanly."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from client.background import Background
from swarm.errors import UsageError

T = TypeVar("T")


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background("test")
    yield made
    made.close()


class Fountain:
    """An async generator that remembers where it ran and whether it was closed."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.closed = threading.Event()

    async def flow(self, count: int) -> AsyncGenerator[int, None]:
        try:
            for n in range(count):
                self.threads.add(threading.current_thread().name)
                await asyncio.sleep(0)
                yield n
        finally:
            self.closed.set()


async def answer() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_work_runs_on_its_thread_and_its_errors_come_back(background: Background):
    async def fail() -> None:
        raise KeyError("inside")

    assert background.run(answer()) == "test"
    with pytest.raises(KeyError, match="inside"):
        background.run(fail())


async def test_another_loop_can_await_it(background: Background):
    assert await asyncio.gather(*(background.call(answer()) for _ in range(5))) == ["test"] * 5


def test_a_generator_flows_over_and_closes_when_the_reader_leaves(background: Background):
    whole, left = Fountain(), Fountain()
    assert list(background.iterate(whole.flow(4))) == [0, 1, 2, 3]
    assert whole.threads == {"test"} and whole.closed.is_set()
    for n in background.iterate(left.flow(4)):
        if n == 1:
            break
    assert left.closed.is_set()


async def test_an_async_generator_flows_over_and_closes_when_the_reader_leaves(background: Background):
    whole, left = Fountain(), Fountain()
    assert [n async for n in background.aiterate(whole.flow(4))] == [0, 1, 2, 3]
    stream = background.aiterate(left.flow(4))
    assert await anext(stream) == 0
    await stream.aclose()
    assert left.closed.is_set()


async def test_a_cancelled_await_cancels_the_work(background: Background):
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(background.call(work()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.wait(10)


async def test_a_stream_that_is_cancelled_while_it_waits_is_closed_afterwards(background: Background):
    fountain, waiting = Fountain(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def dry() -> AsyncGenerator[int, None]:
        async for n in fountain.flow(1):
            yield n
            loop.call_soon_threadsafe(waiting.set)
            await asyncio.Event().wait()

    async def read() -> None:
        async for _ in background.aiterate(dry()):
            pass

    task = asyncio.create_task(read())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Interrupted(Background):
    """Its caller is interrupted once it waits for work that has begun, as by Ctrl-C.

    No real signal: one that comes just before the wait is seen only after it.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.begun = threading.Event()

    def _start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        future = super()._start(work)

        def result(timeout: float | None = None) -> T:
            assert self.begun.wait(10)
            raise KeyboardInterrupt

        future.result = result  # type: ignore[method-assign]
        return future


def test_ctrl_c_cancels_the_work_and_waits_until_it_has_unwound():
    background, unwound = Interrupted("test"), list[bool]()

    async def work() -> None:
        background.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            unwound.append(True)

    with pytest.raises(KeyboardInterrupt):
        background.run(work())
    assert unwound == [True]
    background.close()


def test_closing_cancels_what_still_runs_and_is_idempotent():
    background, ended, begun = Background("test"), threading.Event(), threading.Event()
    outcomes: list[type] = []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def wait() -> None:
        with pytest.raises(UsageError, match="closed while a call was under way"):
            background.run(work())
        outcomes.append(UsageError)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(10)
    background.close()
    background.close()
    waiter.join(10)
    assert ended.is_set() and outcomes == [UsageError]


async def test_an_awaiting_caller_hears_of_the_closing_as_an_error_and_not_as_its_own_cancellation():
    background, begun = Background("test"), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        await asyncio.Event().wait()

    task = asyncio.create_task(background.call(work()))
    await begun.wait()
    background.close()
    with pytest.raises(UsageError, match="closed while a call was under way"):
        await task


def test_a_closed_one_and_its_own_thread_are_refused_rather_than_deadlocked(background: Background):
    async def inside() -> None:
        background.run(answer())

    with pytest.raises(UsageError, match="cannot wait for itself"):
        background.run(inside())
    background.close()
    with pytest.raises(UsageError, match="closed"):
        background.run(answer())


def test_a_generator_left_over_from_a_closed_one_ends_quietly():
    background = Background("test")
    stream = background.iterate(Fountain().flow(3))
    assert next(stream) == 0
    background.close()
    stream.close()
