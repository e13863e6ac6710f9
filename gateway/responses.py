"""What goes back: JSON, errors, and EventStream, which sends a Generation as it comes and ends it when nobody listens.

A stream's status is sent with its first event, so what fails before the first token fails with a status of its own.
Afterwards an error is an event, and ``[DONE]`` follows in any case.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from client.result import Result
from gateway import sse
from gateway.dialect import Dialect, Json, Usage, Wrapping
from gateway.errors import ApiError
from gateway.generation import Event, Generation
from swarm.clock import Clock

log = logging.getLogger("gateway.responses")
PLAIN = "/v2"  # where errors are as the Open Inference Protocol has them
T = TypeVar("T")


class Vanished(Exception):
    """The client has gone; nobody will read an answer."""


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return sse.dump(content)


def error_response(error: ApiError, path: str) -> JsonResponse:
    """In the form of the API that ``path`` belongs to."""
    return JsonResponse(error.plain_body if path.startswith(PLAIN) else error.body, error.status, error.headers)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled (and awaited) when the client goes: then raises Vanished."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Vanished
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Script:
    """The events of one stream, in order, as JSON. ``prompt_of``: which Job an answer belongs to is its index."""

    def __init__(self, dialect: Dialect, envelope: Wrapping, usage: Usage, *, include_usage: bool, continuous: bool):
        self._dialect, self._envelope, self.usage = dialect, envelope, usage
        self._include_usage, self._continuous = include_usage, continuous
        self._opened: set[int] = set()

    def write(self, event: Event) -> list[Json]:
        """The chunks for what came."""
        index, item = event
        chunks: list[Json] = []
        if index not in self._opened:
            self._opened.add(index)
            opening = self._dialect.opening(index)
            if opening is not None:
                chunks.append(self._wrap(opening))
        if isinstance(item, Result):
            self.usage.cached = max(self.usage.cached, item.cached_tokens)
            chunks.append(self._wrap(self._dialect.ending(index, item)))
        else:
            self.usage.completion += len(item.token_ids)
            chunks.append(self._wrap(self._dialect.delta(index, item)))
        return chunks

    def close(self) -> list[Json]:
        """The chunks after the last answer."""
        if not self._include_usage:
            return []
        return [self._envelope.wrap(self._dialect.chunk_object, [], self.usage.as_json())]

    def fail(self, error: ApiError) -> list[Json]:
        """The chunks where the rest will never come."""
        return [self._envelope.failed(error)]

    @property
    def done(self) -> bytes:
        return self._envelope.done

    def _wrap(self, choice: Json) -> Json:
        usage = self.usage.as_json() if self._continuous else None
        return self._envelope.wrap(self._dialect.chunk_object, [choice], usage)


class EventStream(Response):
    """Owns ``stack``: what the request holds is given back when the stream ends, or its reader goes.

    A reader that takes nothing for ``write_timeout_s`` counts as gone.
    """

    def __init__(
        self, first: Event | None, generation: Generation, script: Script, stack: AsyncExitStack,
        write_timeout_s: float, clock: Clock,
    ):  # fmt: skip
        super().__init__(headers=sse.HEADERS)
        del self.headers["content-length"]
        self._first, self._generation, self._script, self._stack = first, generation, script, stack
        self._write_timeout_s, self._clock = write_timeout_s, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._send(send))
        except (Vanished, TimeoutError, OSError):
            log.debug("a client left in mid-stream")
        finally:
            await self._stack.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for data in self._frames():
            async with asyncio.timeout(self._write_timeout_s):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _frames(self) -> AsyncGenerator[bytes]:
        try:
            event = self._first
            while event is not None:
                yield b"".join(sse.event(chunk) for chunk in self._script.write(event))
                event = await self._generation.next()
            tail = self._script.close()
        except ApiError as error:
            tail = self._script.fail(error)
        except Exception:
            log.exception("a stream failed")
            tail = self._script.fail(ApiError(500, "the gateway failed", code="internal_error"))
        yield b"".join(sse.event(each) for each in tail) + self._script.done
