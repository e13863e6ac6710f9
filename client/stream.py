"""Stream, AsyncStream: a generation as it comes. Pieces while it lasts, the Result when it is over.

In a ring the swarm runs ahead of the reader, up to the end of the answer; leaving the stream stops it within a step.
Otherwise a token is asked for when the next Piece is. Underneath, ``items`` gives the Pieces and then exactly one
Result; where the swarm failed that one has ``finish_reason`` "error", and the error follows it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from types import TracebackType

from client.result import Piece, Result
from swarm.errors import UsageError


class _Ending:
    """What is known once the last Piece was read."""

    _ending: Result | None = None

    @property
    def result(self) -> Result:
        """The whole generation. Raises UsageError before the last Piece was read."""
        if self._ending is None or self._ending.finish_reason == "error":
            raise UsageError("a stream has its result once all its pieces were read; finish() reads what is left")
        return self._ending

    @property
    def partial(self) -> Result | None:
        """After a failure, what there was by then (``finish_reason`` "error"); None where not a token had come."""
        return self._ending if self._ending is not None and self._ending.finish_reason == "error" else None


class Stream(_Ending):
    """``for piece in stream``, then ``stream.result``. Leaving it early, by ``close`` or ``with``, frees the Seats."""

    def __init__(self, items: Generator[Piece | Result, None, None]):
        self.items = items

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        for item in self.items:
            if isinstance(item, Piece):
                return item
            self._ending = item
        raise StopIteration

    def finish(self) -> Result:
        """Read what is left; the Result."""
        with self:
            for _ in self:
                pass
        return self.result

    def close(self) -> None:
        self.items.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(_Ending):
    """``async for piece in stream``, then ``stream.result``. Leaving it early, by ``aclose`` or ``async with``, frees
    the Seats.
    """

    def __init__(self, items: AsyncGenerator[Piece | Result, None]):
        self.items = items

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Piece:
        async for item in self.items:
            if isinstance(item, Piece):
                return item
            self._ending = item
        raise StopAsyncIteration

    async def finish(self) -> Result:
        """Read what is left; the Result."""
        async with self:
            async for _ in self:
                pass
        return self.result

    async def aclose(self) -> None:
        await self.items.aclose()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
