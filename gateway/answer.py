"""The way of a request that makes text: limits → model → token ids → a place → Generation → response.

What it holds on the way (a caller's allowance, a client, a place at the gate, the Sessions) is on one stack, given
back when the response is over or cannot be; while it waits, a client that goes ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from client.async_client import LONG_PROMPT
from client.result import Result
from client.sampling import Options
from client.served import Served
from client.text import check_text
from gateway.desk import Desk
from gateway.dialect import ChatDialect, CompletionDialect, Dialect, Envelope, Usage, Wrapping
from gateway.errors import BAD_GRAMMAR, ApiError, of_error
from gateway.generation import Generation, Job
from gateway.models import Target
from gateway.responses import EventStream, JsonResponse, Script, Vanished, while_connected
from gateway.schema import ChatMessage, ChatRequest, CompletionRequest, Sampling, Tool
from gateway.tools import for_template, format_of, grammar, offered, reader
from gateway.wishes import answers_of, check_supported, messages_of, one_by_one, options_of, prompts_of
from swarm.errors import ShoalError

GONE = 499  # nginx's number for a client that did not wait


@contextmanager
def told() -> Generator[None]:
    """Our errors become the API's."""
    try:
        yield
    except ShoalError as error:
        raise of_error(error) from None


async def complete(desk: Desk, request: Request, body: CompletionRequest) -> Response:
    """/v1/completions."""
    return await respond(desk, request, body, Completion(body))


async def chat(desk: Desk, request: Request, body: ChatRequest) -> Response:
    """/v1/chat/completions."""
    return await respond(desk, request, body, _Chat(body))


async def encode(served: Served, text: str, *, special: bool = True) -> tuple[int, ...]:
    """Long texts beside the loop, for all requests share it. Raises UsageError for half a letter."""
    check_text(text)
    if len(text) <= LONG_PROMPT:
        return served.codec.encode(text, special=special)
    return await asyncio.to_thread(served.codec.encode, text, special=special)


async def encode_chat(served: Served, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> tuple[int, ...]:
    """By the model's template, which is a program: beside the loop. Raises ApiError where it takes no ``tools``."""

    def encode() -> tuple[int, ...]:
        if tools:
            format_of(served.codec.chat_template)
        return served.codec.chat_prompt(messages_of(messages), for_template(tools))

    return await asyncio.to_thread(encode)


class Call(Protocol):
    """What sets one route apart from another: its prompts, and how answers are written."""

    @property
    def num_prompts(self) -> int: ...

    async def prompts(self, served: Served) -> list[tuple[int, ...]]: ...

    def dialect(self, served: Served, prompts: Sequence[tuple[int, ...]], n: int) -> Dialect: ...

    def envelope(self, dialect: Dialect, target: Target, request_id: str, created: int) -> Wrapping: ...


@dataclass(frozen=True, slots=True)
class Completion:
    """``Call`` of whatever has plain prompts."""

    body: CompletionRequest

    @property
    def num_prompts(self) -> int:
        return len(prompts_of(self.body.prompt))

    async def prompts(self, served: Served) -> list[tuple[int, ...]]:
        return [
            await encode(served, each) if isinstance(each, str) else tuple(each)
            for each in prompts_of(self.body.prompt)
        ]

    def dialect(self, served: Served, prompts: Sequence[tuple[int, ...]], n: int) -> Dialect:
        echoes = [""] * (len(prompts) * n)
        if self.body.echo:
            given = prompts_of(self.body.prompt)
            texts = [each if isinstance(each, str) else served.codec.decode(each) for each in given]
            echoes = [text for text in texts for _ in range(n)]
        return CompletionDialect(served.codec.decode, echoes)

    def envelope(self, dialect: Dialect, target: Target, request_id: str, created: int) -> Wrapping:
        return Envelope(dialect.id_prefix + request_id, target.name, target.model.fingerprint, created)


@dataclass(frozen=True, slots=True)
class _Chat:
    body: ChatRequest
    num_prompts = 1

    async def prompts(self, served: Served) -> list[tuple[int, ...]]:
        return [await encode_chat(served, self.body.messages, offered(self.body))]

    def grammar(self, served: Served) -> str | None:
        """Of the tool calls that have to come."""
        return grammar(self.body, format_of(served.codec.chat_template)) if offered(self.body) else None

    def dialect(self, served: Served, prompts: Sequence[tuple[int, ...]], n: int) -> Dialect:
        if not offered(self.body):
            return ChatDialect(served.codec.spell)
        form = format_of(served.codec.chat_template)
        return ChatDialect(served.codec.spell, lambda: reader(self.body, form))

    def envelope(self, dialect: Dialect, target: Target, request_id: str, created: int) -> Wrapping:
        return Envelope(dialect.id_prefix + request_id, target.name, target.model.fingerprint, created)


async def respond(desk: Desk, request: Request, body: Sampling, call: Call) -> Response:
    """Holds what it needs until the response is over."""
    stack = AsyncExitStack()
    try:
        response = await while_connected(request.receive, _answer(desk, request, body, call, stack))
    except Vanished:
        await stack.aclose()
        return Response(status_code=GONE)
    except BaseException:
        await stack.aclose()
        raise
    if not isinstance(response, EventStream):
        await stack.aclose()
    return response


async def _answer(desk: Desk, request: Request, body: Sampling, call: Call, stack: AsyncExitStack) -> Response:
    begun = desk.clock.monotonic()
    check_supported(body)
    options = options_of(body)
    if isinstance(call, _Chat):
        offered(call.body)
    answers = answers_of(options) * call.num_prompts
    if answers > desk.config.max_answers:
        raise ApiError(400, f"{answers} answers in one request, at most {desk.config.max_answers} are made", param="n")
    stack.enter_context(desk.admit(request))
    request_id: str = request.state.request_id
    target = desk.models.resolve(body.model, request_id)
    stack.callback(lambda: desk.metrics.request(target.name, desk.clock.monotonic() - begun))
    with told():
        client = await stack.enter_async_context(desk.models.use(target))
        served = await client.served()
        prompts = await call.prompts(served)
    if isinstance(call, _Chat):
        options["grammar"] = call.grammar(served)
    for prompt in prompts:
        _check_length(desk, served, prompt, options)
    desk.metrics.waited(await stack.enter_async_context(desk.gate.enter(answers)))
    desk.metrics.prompt(target.name, sum(map(len, prompts)))
    n = options.get("n") or 1
    dialect = call.dialect(served, prompts, n)
    envelope = call.envelope(dialect, target, request_id, int(desk.clock.wall()))
    jobs = [Job(p, each) for p in prompts for each in (one_by_one(options) if body.stream else [options])]
    generation = await stack.enter_async_context(
        Generation(
            client, jobs, desk.config.request_timeout_s,
            metrics=desk.metrics, model=target.name, begun=begun, clock=desk.clock,
        )
    )  # fmt: skip
    stack.enter_context(desk.running(generation))
    usage = Usage(sum(map(len, prompts)))
    if not body.stream:
        with _blaming(options):
            return await _whole(generation, len(jobs), dialect, envelope, usage)
    asked = body.stream_options
    script = Script(
        dialect, envelope, usage,
        include_usage=bool(asked and asked.include_usage), continuous=bool(asked and asked.continuous_usage_stats),
    )  # fmt: skip
    with _blaming(options):
        first = await generation.next()
    return EventStream(first, generation, script, stack, desk.config.write_timeout_s, desk.clock)


@contextmanager
def _blaming(options: Options) -> Generator[None]:
    """A grammar that peers do not take was made of tools, or of response_format."""
    try:
        yield
    except ApiError as error:
        if error.code == BAD_GRAMMAR and options.get("grammar") is not None:
            error.param = "tools"
        raise


async def _whole(generation: Generation, jobs: int, dialect: Dialect, envelope: Wrapping, usage: Usage) -> JsonResponse:
    """All answers in one body, in the order of prompts."""
    results: list[Result | None] = [None] * jobs
    while (event := await generation.next()) is not None:
        if isinstance(event[1], Result):
            results[event[0]] = event[1]
    answers = [answer for result in results if result is not None for answer in (result, *result.alternatives)]
    usage.completion = sum(answer.completion_tokens for answer in answers)
    usage.cached = sum(result.cached_tokens for result in results if result is not None)
    choices: list[dict[str, Any]] = [dialect.whole(index, answer) for index, answer in enumerate(answers)]
    return JsonResponse(envelope.wrap(dialect.whole_object, choices, usage.as_json()))


def _check_length(desk: Desk, served: Served, prompt: Sequence[int], options: Options) -> None:
    limit, longest = desk.config.max_prompt_tokens, desk.models.max_model_len(served)
    if limit is not None and len(prompt) > limit:
        raise ApiError(
            400, f"the prompt has {len(prompt)} tokens, this gateway takes {limit}", code="context_length_exceeded",
            param="prompt",
        )  # fmt: skip
    new = options.get("max_new_tokens") or 1
    if len(prompt) + new > longest:
        raise ApiError(
            400, f"this model's maximum context length is {longest} tokens; the prompt has {len(prompt)} and at least "
            f"{new} new ones are asked for", code="context_length_exceeded", param="max_tokens",
        )  # fmt: skip
