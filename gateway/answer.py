"""The way of a request that makes text: limits → model → token ids → a place → Generation → response.

What it holds on the way (a caller's allowance, a client, a place at the gate, the Sessions) is on one stack, given
back when the response is over or cannot be; while it waits, a client that goes ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from client.async_client import LONG_PROMPT
from client.result import Result
from client.sampling import Options
from client.served import Served
from gateway.desk import Desk
from gateway.dialect import ChatDialect, CompletionDialect, Dialect, Envelope, Usage
from gateway.errors import ApiError, of_error
from gateway.generation import Generation, Job
from gateway.models import Target
from gateway.responses import EventStream, JsonResponse, Script, Vanished, while_connected
from gateway.schema import ChatMessage, ChatRequest, CompletionRequest, Sampling
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
    return await _while_held(desk, request, body, _Completion(body))


async def chat(desk: Desk, request: Request, body: ChatRequest) -> Response:
    """/v1/chat/completions."""
    return await _while_held(desk, request, body, _Chat(body))


async def encode(served: Served, text: str, *, special: bool = True) -> tuple[int, ...]:
    """Long texts beside the loop, for all requests share it."""
    if len(text) <= LONG_PROMPT:
        return served.codec.encode(text, special=special)
    return await asyncio.to_thread(served.codec.encode, text, special=special)


async def encode_chat(served: Served, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
    """By the model's template, which is a program: beside the loop."""
    return await asyncio.to_thread(served.codec.chat_prompt, messages_of(messages))


@dataclass(frozen=True, slots=True)
class _Completion:
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


@dataclass(frozen=True, slots=True)
class _Chat:
    body: ChatRequest
    num_prompts = 1

    async def prompts(self, served: Served) -> list[tuple[int, ...]]:
        return [await encode_chat(served, self.body.messages)]

    def dialect(self, served: Served, prompts: Sequence[tuple[int, ...]], n: int) -> Dialect:
        return ChatDialect(served.codec.decode)


async def _while_held(desk: Desk, request: Request, body: Sampling, call: _Completion | _Chat) -> Response:
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


async def _answer(
    desk: Desk, request: Request, body: Sampling, call: _Completion | _Chat, stack: AsyncExitStack
) -> Response:
    begun = desk.clock.monotonic()
    check_supported(body)
    options = options_of(body)
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
    for prompt in prompts:
        _check_length(desk, served, prompt, options)
    desk.metrics.waited(await stack.enter_async_context(desk.gate.enter(answers)))
    desk.metrics.prompt(target.name, sum(map(len, prompts)))
    n = options.get("n") or 1
    dialect = call.dialect(served, prompts, n)
    envelope = _envelope(dialect, target, request_id, int(desk.clock.wall()))
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
        return await _whole(generation, len(jobs), dialect, envelope, usage)
    asked = body.stream_options
    script = Script(
        dialect, envelope, usage,
        include_usage=bool(asked and asked.include_usage), continuous=bool(asked and asked.continuous_usage_stats),
    )  # fmt: skip
    first = await generation.next()
    return EventStream(first, generation, script, stack, desk.config.write_timeout_s, desk.clock)


async def _whole(generation: Generation, jobs: int, dialect: Dialect, envelope: Envelope, usage: Usage) -> JsonResponse:
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


def _envelope(dialect: Dialect, target: Target, request_id: str, created: int) -> Envelope:
    return Envelope(dialect.id_prefix + request_id, target.name, target.model.fingerprint, created)


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
