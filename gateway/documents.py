"""What answers look like, for the OpenAPI page and whoever generates a client from it. Nothing is built from these.

Answers are written by the dialects, field by field; ``tests/gateway/test_openapi.py`` holds the two together. Fields
that may be left out have a default here, and there may be more than are named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]
EVENTS: dict[str, Any] = {  # the schema is that of one event
    "schema": {
        "type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"],
        "description": "server-sent events; data is JSON",
    },
}  # fmt: skip


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    error: ErrorDetail


class PlainError(BaseModel):
    error: str


class CachedTokens(BaseModel):
    cached_tokens: int


class UsageTold(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CompletionLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: CompletionLogprobs | None = None


class Told(BaseModel):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: UsageTold


class Completion(Told):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class FunctionTold(BaseModel):
    name: str
    arguments: str


class ToolCallTold(BaseModel):
    id: str
    type: Literal["function"]
    function: FunctionTold


class ChatAnswer(BaseModel):
    role: Literal["assistant"]
    content: str | None
    tool_calls: list[ToolCallTold] | None = None


class TokenTold(BaseModel):
    token: str
    logprob: float | None
    bytes: list[int]


class TokenAndRivals(TokenTold):
    top_logprobs: list[TokenTold]


class ChatLogprobs(BaseModel):
    content: list[TokenAndRivals]


class ChatChoice(BaseModel):
    index: int
    message: ChatAnswer
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Told):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class Model(BaseModel):
    """``max_model_len`` once it is known; an alias has neither that nor a fingerprint."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[Model]


class Tokens(BaseModel):
    count: int
    max_model_len: int
    tokens: list[int]


class Text(BaseModel):
    prompt: str


class Status(BaseModel):
    status: str


class Version(BaseModel):
    version: str


class ServerTold(BaseModel):
    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class TensorTold(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class ModelTold(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorTold]
    outputs: list[TensorTold]


class Generated(BaseModel):
    model_name: str
    model_version: str
    text_output: str
    finish_reason: str


class TextsTold(TensorTold):
    data: list[str]


class Inferred(BaseModel):
    model_name: str
    model_version: str
    outputs: list[TextsTold]


ERRORS: Responses = {
    "4XX": {"model": Error, "description": "the request cannot be answered as it is"},
    "5XX": {"model": Error, "description": "the gateway or the swarm cannot answer now"},
}
PLAIN_ERRORS: Responses = {
    "4XX": {"model": PlainError, "description": "the request cannot be answered as it is"},
    "5XX": {"model": PlainError, "description": "the gateway or the swarm cannot answer now"},
}


def with_keys(document: dict[str, Any], is_open: Callable[[str], bool]) -> dict[str, Any]:
    """The document of a gateway that asks for keys: where, and where not."""
    document.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    for path, operations in document["paths"].items():
        if is_open(path):
            for operation in operations.values():
                operation["security"] = []
    return document


def told(model: type[BaseModel], *, events: bool = False) -> Responses:
    """The answer of a route that works."""
    content = {"content": {"text/event-stream": EVENTS}} if events else {}
    return {200: {"model": model, "description": "the answer", **content}}


def probed(model: type[BaseModel]) -> Responses:
    """The same words for yes (200) and no (503)."""
    return {200: {"model": model, "description": "yes"}, 503: {"model": model, "description": "no"}}
