"""Client: the public face. Plain calls, and their async twins, from any thread and any event loop.

The work itself runs on one loop in a background thread (``AsyncClient`` there), which starts with the first call.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Unpack, overload

from client.async_client import AsyncClient, Prompt, Prompts, join_addresses
from client.background import Background
from client.config import ClientConfig
from client.result import Result
from client.sampling import Options, read_options
from client.served import Served
from client.stream import AsyncStream, Stream
from client.text import Message
from swarm.errors import UsageError


class Client:
    """One swarm, one model, any number of generations.

        with Client(swarm=["/ip4/…"]) as client:
            print(client.generate("def fib(n):", max_new_tokens=64).text)

    ``swarm`` defaults to $SHOAL_SWARM; ``model`` (a name or a fingerprint) to the only one that the swarm serves.
    Options are those of ``client.sampling.Options``. Close it, or use ``with`` or ``async with``; what was forgotten
    closes at exit.
    """

    def __init__(
        self, swarm: str | Sequence[str] | None = None, model: str | None = None, config: ClientConfig | None = None
    ):
        self._swarm = join_addresses(swarm)
        self._model, self._config = model, config or ClientConfig()
        self._lock = threading.Lock()
        self._running: tuple[Background, AsyncClient] | None = None
        self._closed = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_async()

    @overload
    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Result: ...
    @overload
    def generate(self, prompt: Prompts, **options: Unpack[Options]) -> list[Result]: ...
    def generate(self, prompt: Prompt | Prompts, **options: Unpack[Options]) -> Result | list[Result]:
        """The answer to a prompt (text or token ids); a list of prompts runs as concurrent Sessions, answered in order.

        Raises UsageError for what cannot be meant, SwarmError when the swarm cannot do it; a NoRoute holds the text
        so far.
        """
        read_options(options)
        background, core = self._start()
        return background.run(core.generate(prompt, **options))

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """Pieces as they come; its ``result`` when it has ended. Leaving the loop early gives the Seats back.

        for piece in client.stream("def fib(n):"):
            print(piece.text, end="")
        """
        read_options(options)
        background, core = self._start()
        return Stream(background.iterate(core.stream(prompt, **options).items))

    def chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Result:
        """The answer to ``[{"role": "user", "content": "…"}, …]``, by the model's own chat template."""
        background, core = self._start()
        return background.run(core.chat(messages, **options))

    def stream_chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Stream:
        """As ``stream``, for a conversation."""
        background, core = self._start()
        return Stream(background.iterate(core.stream_chat(messages, **options).items))

    def served(self) -> Served:
        """What the swarm serves: model, Profile, sizes, tokenizer. Joins it if that was not done yet."""
        background, core = self._start()
        return background.run(core.served())

    @overload
    async def generate_async(self, prompt: Prompt, **options: Unpack[Options]) -> Result: ...
    @overload
    async def generate_async(self, prompt: Prompts, **options: Unpack[Options]) -> list[Result]: ...
    async def generate_async(self, prompt: Prompt | Prompts, **options: Unpack[Options]) -> Result | list[Result]:
        """``generate`` for a caller with an event loop."""
        read_options(options)
        background, core = self._start()
        return await background.call(core.generate(prompt, **options))

    def stream_async(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """``stream`` for a caller with an event loop."""
        read_options(options)
        background, core = self._start()
        return AsyncStream(background.aiterate(core.stream(prompt, **options).items))

    async def chat_async(self, messages: Sequence[Message], **options: Unpack[Options]) -> Result:
        """``chat`` for a caller with an event loop."""
        background, core = self._start()
        return await background.call(core.chat(messages, **options))

    def stream_chat_async(self, messages: Sequence[Message], **options: Unpack[Options]) -> AsyncStream:
        """``stream_chat`` for a caller with an event loop."""
        background, core = self._start()
        return AsyncStream(background.aiterate(core.stream_chat(messages, **options).items))

    def close(self) -> None:
        """Leave the swarm and end the thread. Twice is once."""
        running = self._stop()
        if running is not None:
            background, core = running
            try:
                background.run(core.close())
            finally:
                background.close()

    async def close_async(self) -> None:
        """``close`` for a caller with an event loop."""
        running = self._stop()
        if running is not None:
            background, core = running
            try:
                await background.call(core.close())
            finally:
                await asyncio.to_thread(background.close)  # it waits for its thread

    def _core(self) -> AsyncClient:
        return AsyncClient(self._swarm, self._model, self._config)

    def _start(self) -> tuple[Background, AsyncClient]:
        with self._lock:
            if self._closed:
                raise UsageError("this client is closed; make a new one")
            if self._running is None:
                core = self._core()
                self._running = Background("shoal-client"), core
                atexit.register(self.close)
            return self._running

    def _stop(self) -> tuple[Background, AsyncClient] | None:
        with self._lock:
            running, self._running, self._closed = self._running, None, True
            atexit.unregister(self.close)
            return running
