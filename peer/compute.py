"""The compute thread: one thread that runs one function after the other for an event loop.

``concurrent.futures`` would do the same; but a decode step passes through here twice, and its way there and back,
through two kinds of Future, took 0.1 ms longer on the machine where it was measured. Knows nothing of what it runs.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

LOOK_S = 1.0  # how often a thread that nobody closed looks whether the process is about to end

_Call = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ComputeThread:
    """Begun by the first ``call``. All methods are for the event loop."""

    def __init__(self, name: str = "compute"):
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``function`` returns or raises. Cancelled while it waits for its turn it does not run; later it runs to
        its end unheard. Raises RuntimeError after ``close``.
        """
        if self._closed:
            raise RuntimeError("the compute thread is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name)
            self._thread.start()
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((cast("asyncio.Future[Any]", result), function, args, kwargs))
        return await result

    def close(self) -> None:
        """Let the thread end after what it is at; what waits behind that is cancelled."""
        self._closed = True
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                break
            if call is not None:
                call[0].cancel()
        self._calls.put(None)

    def _run(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=LOOK_S)
            except queue.Empty:
                if threading.main_thread().is_alive():
                    continue
                return
            if call is None:
                return
            result, function, args, kwargs = call
            if result.cancelled():
                continue
            try:
                value, failure = function(*args, **kwargs), None
            except BaseException as error:  # noqa: BLE001  (whatever it is, who awaits the call hears it)
                value, failure = None, error
            try:
                result.get_loop().call_soon_threadsafe(_settle, result, value, failure)
            except RuntimeError:
                return  # the loop is closed: nobody listens any more
            del call, result, function, args, kwargs, value, failure  # nothing is held while it waits


def _settle(result: asyncio.Future[Any], value: object, failure: BaseException | None) -> None:
    if result.cancelled():
        return
    if failure is None:
        result.set_result(value)
    else:
        result.set_exception(failure)
