"""AsyncClient: the client on the caller's own event loop. Joins a swarm, learns its model, runs Sessions, makes text.

    connect: swarm address → directory → model → watcher → (a peer's Info and Assets) → Served
    a call:  prompt → token ids → Session → tokens → text → Pieces → Result

``client.client.Client`` is the same for callers without a loop.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Unpack, cast, overload

from client.answers import search, several
from client.assets import AssetStore
from client.beams import BeamSearch
from client.config import ClientConfig
from client.deadline import in_time
from client.journal import Budget
from client.learn import learn
from client.links import Links
from client.prefixes import Prefixes
from client.request import Request
from client.result import Piece, Result
from client.sampling import Options, Wish, read_options, sketch
from client.served import Served, find_model
from client.session import Session
from client.stream import AsyncStream
from client.text import Message, check_messages, check_text
from client.tools import Tools
from client.trace import Tracer
from client.watcher import Watcher
from client.writer import Writer
from dht.directory import Directory
from proto.limits import Limits
from swarm.address import SWARM_VARIABLE, read_swarm
from swarm.clock import Clock, SystemClock
from swarm.errors import NoRoute, ShoalError, SwarmError, UsageError

Prompt = str | list[int] | tuple[int, ...]  # text, or token ids
Prompts = list[str] | list[list[int]] | list[tuple[int, ...]] | tuple[str, ...]

POLL_S = 0.5

LONG_PROMPT = 4096  # letters; longer ones are tokenised beside the loop, for all Sessions share it


def join_addresses(swarm: str | Sequence[str] | None) -> tuple[str, ...]:
    """The addresses to join through; None means those in $SHOAL_SWARM. Raises UsageError where there are none."""
    given: Any = swarm
    each: list[Any] = list(cast(list[Any], given)) if isinstance(given, list | tuple) else [given]
    if given is not None and not all(isinstance(address, str) for address in each):
        raise UsageError(f"a swarm is an address or a list of addresses, not {sketch(swarm)}")
    addresses = read_swarm(swarm)
    if not addresses:
        raise UsageError(
            f'no swarm is named; give an address that a peer prints under "join" (or set {SWARM_VARIABLE})'
        )
    return addresses


def check_prompt(prompt: Prompt) -> None:
    """Raises UsageError for what is neither text nor token ids."""
    if not isinstance(prompt, str | list | tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"a prompt is text or a list of token ids, not {type(prompt).__name__}")
    if isinstance(prompt, str):
        check_text(prompt)
        return
    for token_id in prompt:
        if type(token_id) is not int or not 0 <= token_id < 1 << 32:
            raise UsageError(f"a token id is a whole number from 0 on, not {sketch(token_id)}")


class AsyncClient:
    """Connects at the first call. ``async with`` it, or ``await close()``. Lives on one event loop.

    ``model`` is a name or a fingerprint; None asks the swarm. ``directory`` replaces the joining, and stays its
    owner's.
    """

    def __init__(
        self, swarm: str | Sequence[str] | None = None, model: str | None = None, config: ClientConfig | None = None,
        *, directory: Directory | None = None, clock: Clock | None = None,
    ):  # fmt: skip
        self.config = config or ClientConfig()
        self._swarm = () if directory is not None else join_addresses(swarm)
        self._model = model
        self._given_directory = directory
        self._clock = clock or SystemClock()
        self._turns = asyncio.Semaphore(self.config.max_concurrent)
        self._budget = Budget(self.config.journal_bytes)
        self._prefixes = Prefixes()
        self._connecting = asyncio.Lock()
        self._connection: tuple[Served, Watcher, Links, Tools] | None = None
        self._closers = AsyncExitStack()
        self._closed = False

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the swarm. Sessions that still run lose their Links. Twice is once."""
        self._closed = True
        async with self._connecting:
            self._connection = None
            await self._closers.aclose()

    async def served(self) -> Served:
        """The model that this client talks to: joins the swarm if that was not done yet."""
        return (await self._connected())[0]

    @overload
    async def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Result: ...
    @overload
    async def generate(self, prompt: Prompts, **options: Unpack[Options]) -> list[Result]: ...
    async def generate(self, prompt: Prompt | Prompts, **options: Unpack[Options]) -> Result | list[Result]:
        """The answer to a prompt; to a list of prompts, all of them at once, in order.

        If one of a list fails the others are given up, and its error is raised.
        """
        if isinstance(prompt, list | tuple) and not all(isinstance(token_id, int) for token_id in prompt):
            streams = [self.stream(one, **options) for one in prompt]  # type: ignore[arg-type]
            return await _all(stream.finish() for stream in streams)
        return await self.stream(prompt, **options).finish()  # type: ignore[arg-type]

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """Pieces as they come. Bad options raise at once; closing it early gives the Seats back."""
        read_options(options)
        check_prompt(prompt)

        async def encode(served: Served) -> tuple[int, ...]:
            if not isinstance(prompt, str):
                return tuple(prompt)
            if len(prompt) <= LONG_PROMPT:
                return served.codec.encode(prompt)
            return await asyncio.to_thread(served.codec.encode, prompt)

        return AsyncStream(self._run(encode, options))

    async def chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Result:
        """The answer to a conversation, by the model's own chat template."""
        return await self.stream_chat(messages, **options).finish()

    def stream_chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> AsyncStream:
        """As ``stream``, for a conversation."""
        read_options(options)
        check_messages(messages)

        async def encode(served: Served) -> tuple[int, ...]:
            return await asyncio.to_thread(served.codec.chat_prompt, messages)

        return AsyncStream(self._run(encode, options))

    async def _run(
        self, encode: Callable[[Served], Awaitable[tuple[int, ...]]], options: Options
    ) -> AsyncGenerator[Piece | Result, None]:
        """Pieces, then the Result; before an error in mid-sentence the Result of what there was."""
        begun = self._clock.monotonic()
        served, watcher, links, tools = await self._connected()
        wish = read_options(options, eos_token_ids=served.eos_token_ids, defaults=served.defaults)
        prompt = await encode(served)
        new = served.room(prompt, wish, watcher.view, self.config.max_new_tokens)
        if wish.beams is not None and self.config.shape == "ring":
            raise UsageError("beam search chooses tokens here, which a ring does without; leave out the shape")
        beams = None if wish.beams is None else BeamSearch(wish.beams, new, wish.stop_token_ids)
        sampling = wish.sampling
        if beams is not None:
            sampling = replace(sampling, logprobs=min(beams.width, served.vocab_size))
        elif wish.choices.ranked and sampling.logprobs is None:
            sampling = replace(sampling, logprobs=0)
        request = Request(
            served.model, served.profile, prompt, new, sampling, served.hidden_size, served.vocab_size,
            tuple(sorted(wish.stop_token_ids)), guided=beams is not None, timing=self.config.trace,
        )  # fmt: skip

        def new_writer(wish: Wish) -> Writer:
            return Writer(served.codec, prompt, wish, new, begun)

        async with (
            self._turns,
            tools.drafter(prompt, alone=beams is None and wish.choices.candidates == 1) as drafter,
            Session(
                request, watcher, links, self._budget, self.config,
                clock=self._clock, prefixes=self._prefixes, drafter=drafter, ends=tools.ends,
            ) as session,
        ):  # fmt: skip
            if beams is not None:
                results = await search(session, prompt, wish, sampling, beams, new_writer, self._clock)
                yield replace(results[0], alternatives=tuple(results[1:]))
                return
            if wish.choices.candidates > 1:
                results = await several(session, prompt, wish, sampling, wish.choices, new_writer, self._clock)
                yield replace(results[0], alternatives=tuple(results[1:]))
                return
            writer, tracer, shape = new_writer(wish), Tracer(self._clock.monotonic()), "ring"
            try:
                while writer.finish_reason is None:
                    token = await session.next()
                    now = self._clock.monotonic()
                    if session.route is not None:
                        tracer.hear(token, session.route, now)
                    piece = writer.write(token, now, session.route, session.failovers)
                    shape = session.shape
                    if writer.finish_reason is not None:
                        session.close()  # before the reader sees the end: it may not read on for a while
                    yield piece
            except ShoalError as error:
                if session.token_ids:
                    torso = writer.result(session.route, session.failovers)
                    if isinstance(error, NoRoute):
                        error.text = torso.text
                    session.close()
                    yield torso
                raise
            yield replace(
                writer.result(session.route, session.failovers),
                cached_tokens=session.cached_tokens,
                shape=shape,
                trace=tracer.trace(shape) if self.config.trace else None,
            )

    async def _connected(self) -> tuple[Served, Watcher, Links, Tools]:
        async with self._connecting:
            if self._closed:
                raise UsageError("this client is closed")
            if self._connection is None:
                async with AsyncExitStack() as stack:
                    connecting = asyncio.create_task(self._connect(stack))
                    try:
                        if not await in_time(self._clock, connecting, self.config.connect_timeout_s):
                            raise SwarmError(f"connecting took longer than {self.config.connect_timeout_s:g} s")
                    finally:
                        await asyncio.gather(connecting, return_exceptions=True)  # ``stack`` is no longer in its hands
                    connection = connecting.result()
                    self._closers = stack.pop_all()
                self._connection = connection
            return self._connection

    async def _connect(self, stack: AsyncExitStack) -> tuple[Served, Watcher, Links, Tools]:
        directory = self._given_directory
        if directory is None:
            directory = await _join(self._swarm)
            stack.push_async_callback(directory.close)
        store = AssetStore(self.config.assets_dir, self.config.assets_bytes, self._clock)
        stack.callback(store.close)
        links = Links(self.config, self._clock)
        stack.push_async_callback(links.close)
        deadline = self._clock.monotonic() + self.config.patience_s

        async def wait() -> bool:
            if self._clock.monotonic() >= deadline:
                return False
            await self._clock.sleep(POLL_S)
            return True

        model = await find_model(directory, self._model, wait)
        watcher = await stack.enter_async_context(Watcher(directory, model, links, self._clock))
        await watcher.first_view(self.config.patience_s)

        async def look_again() -> bool:
            waited = await wait()
            await watcher.refresh()
            return waited

        served = await learn(watcher, links, store, self.config.profile, look_again, self._clock)
        links.limits = Limits(hidden_size=served.hidden_size, vocab_size=served.vocab_size)
        return served, watcher, links, await Tools.open(self.config, served, stack)


async def _all(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results in order. The first failure cancels the rest, waits for them to leave, and is raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _join(swarm: Sequence[str]) -> Directory:
    await asyncio.to_thread(importlib.import_module, "dht.node")  # 2.5 s: hivemind imports torch
    from dht.node import HivemindDirectory

    return await HivemindDirectory.create(join=swarm, client_mode=True)
