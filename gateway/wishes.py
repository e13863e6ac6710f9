"""A request → what ``client.AsyncClient`` is asked for. Pure; raises ApiError 400 that names the field.

OpenAI's defaults where the API has one (temperature 1, 16 tokens for a completion), the model's own otherwise. What the
sampler cannot do yet stands in ``UNSUPPORTED``: a field leaves that table and gets its line in ``options_of`` on the
day it works.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from client.choices import Choices
from client.sampling import Options, read_options
from client.text import check_text
from gateway.errors import ApiError
from gateway.schema import ChatMessage, ChatRequest, CompletionRequest, Sampling
from gateway.tools import calls_of
from swarm.errors import UsageError

COMPLETION_TOKENS = 16  # where a completion names no number, as OpenAI has it
SEED_BITS = 53

UNSUPPORTED: dict[str, Callable[[Any], bool]] = {
    "suffix": bool,
    "functions": bool,
}

_FIELDS = {  # the first word of what the client says → the field ("a stop must be a string …")
    "max_new_tokens": "max_tokens", "a": "stop", "json_schema:": "response_format", "logit_bias's": "logit_bias",
}  # fmt: skip


def check_supported(request: Sampling) -> None:
    for name, used in UNSUPPORTED.items():
        if used(getattr(request, name, None)):
            raise ApiError(
                400, f"{name} is not supported by this gateway yet", param=name, code="unsupported_parameter"
            )
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "stream_options goes with stream: true only", param="stream_options")
    if isinstance(request, CompletionRequest):
        n, best_of = request.n or 1, request.best_of
        if request.stream and best_of is not None and best_of != n:
            raise ApiError(
                400, "best_of cannot be streamed: which answers are best is known at the end", param="best_of"
            )
        if request.echo and request.logprobs is not None:
            raise ApiError(
                400, "echo with logprobs is not supported: a swarm computes no logprobs of the prompt", param="echo",
                code="unsupported_parameter",
            )  # fmt: skip


def options_of(request: Sampling) -> Options:
    """Checked as far as that is possible without the model."""
    options = Options(
        max_new_tokens=_max_new_tokens(request),
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=request.top_p,
        top_k=0 if request.top_k == -1 else request.top_k,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        seed=secrets.randbits(SEED_BITS) if request.seed is None else request.seed % (1 << 64),  # others have signs
        stop=request.stop or None,
        stop_token_ids=request.stop_token_ids,
        logprobs=_logprobs(request),
        ignore_eos=bool(request.ignore_eos),
        n=request.n,
        best_of=request.best_of if isinstance(request, CompletionRequest) else None,
        logit_bias=_logit_bias(request),
        min_tokens=request.min_tokens,
        json_schema=_json_schema(request),
    )
    try:
        read_options(options)
    except UsageError as error:
        first = str(error).split()[0]
        name = _FIELDS.get(first, first)
        message = str(error).replace("max_new_tokens", "max_tokens")
        raise ApiError(400, message, param=name if name in type(request).model_fields else None) from None
    return options


def answers_of(options: Options) -> int:
    """How many are generated for each prompt."""
    return max(options.get("n") or 1, options.get("best_of") or 1)


def one_by_one(options: Options) -> list[Options]:
    """The same answers as calls for one each, which can be streamed: the seeds are those that ``n`` would use."""
    n = options.get("n") or 1
    seed = options.get("seed")
    assert seed is not None
    found: list[Options] = []
    for each in Choices(n).seeds(seed):
        one = options.copy()
        one["n"], one["best_of"], one["seed"] = 1, None, each
        found.append(one)
    return found


def prompts_of(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str] | list[list[int]]:
    """A list of prompts, whichever of the four ways was used."""
    if isinstance(prompt, str):
        prompts: Any = [prompt]
    elif prompt and isinstance(prompt[0], int):
        prompts = [prompt]
    else:
        prompts = list(prompt)
    if not prompts or not all(prompts):
        raise ApiError(400, "the prompt is empty", param="prompt")
    for each in prompts:
        if isinstance(each, str):
            _text(each, "prompt")
    return prompts


def messages_of(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """For the model's template: text and tool calls. ``developer`` is what OpenAI calls the system by now."""
    found: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        param = f"messages.{index}.content"
        content = message.content if message.content is not None else ""
        if not isinstance(content, str):
            other = next((part.type for part in content if part.type != "text" or part.text is None), None)
            if other is not None:
                raise ApiError(
                    400, f"content of type {other[:40]!r} is not supported; this model reads text", param=param
                )
            content = "".join(part.text or "" for part in content)
        _text(content, param)
        _text(message.role, f"messages.{index}.role")
        told: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role, "content": content}
        if message.tool_calls:
            told["tool_calls"] = calls_of(message, f"messages.{index}")
        for name in ("name", "tool_call_id"):
            value = getattr(message, name)
            if value is not None:
                _text(value, f"messages.{index}.{name}")
                told[name] = value
        found.append(told)
    return found


def _text(text: str, param: str) -> None:
    try:
        check_text(text, param)
    except UsageError as error:
        raise ApiError(400, str(error), param=param) from None


def _logit_bias(request: Sampling) -> dict[int, float] | None:
    try:
        return {int(token_id): bias for token_id, bias in (request.logit_bias or {}).items()} or None
    except ValueError:
        raise ApiError(400, "logit_bias's keys are token ids: whole numbers", param="logit_bias") from None


def _json_schema(request: Sampling) -> dict[str, Any] | None:
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.json_schema is None:
        raise ApiError(400, "response_format.json_schema is missing", param="response_format")
    schema = wanted.json_schema.schema_
    return {"type": "object"} if schema is None else schema


def _max_new_tokens(request: Sampling) -> int | None:
    if isinstance(request, ChatRequest):
        return request.max_completion_tokens or request.max_tokens
    return request.max_tokens or COMPLETION_TOKENS


def _logprobs(request: Sampling) -> int | None:
    if isinstance(request, CompletionRequest):
        return request.logprobs
    if not isinstance(request, ChatRequest):
        return None
    if request.top_logprobs and not request.logprobs:
        raise ApiError(400, "top_logprobs goes with logprobs: true only", param="top_logprobs")
    return (request.top_logprobs or 0) if request.logprobs else None
