"""What may be in a request, as pydantic models. Unknown fields are ignored; ``null`` means: not given.

Fields for what the sampler cannot do yet are here too, so that they are refused by name (``gateway.wishes``) and not
lost in silence. Ranges are checked once, where they are known: by ``client.sampling``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

TokenId = Annotated[StrictInt, Field(ge=0, lt=1 << 32)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]


class Strict(BaseModel):
    """A number is a number: neither ``true`` nor ``"5"``."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Body(Strict):
    model: str | None = Field(None, max_length=512, description="a name in /v1/models, name@fingerprint, or an alias")


class StreamOptions(Strict):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class JsonSchema(Strict):
    name: str | None = Field(None, max_length=256)
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="a JSON Schema")
    strict: bool | None = Field(None, description="it always is")


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Sampling(Body):
    """What completions and chats share."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1)
    seed: int | None = None
    temperature: float | None = Field(None, description="default 1; 0 is greedy")
    top_p: float | None = None
    top_k: int | None = Field(None, description="0 or -1: off")
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None

    logit_bias: dict[str, float] | None = Field(None, description="token id → what is added to its logit, -100..100")
    min_tokens: int | None = Field(None, ge=0, description="of the answer, before it may end")
    response_format: ResponseFormat | None = None


class CompletionRequest(Sampling):
    prompt: str | list[str] | TokenIds | list[TokenIds]
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0)
    suffix: str | None = Field(None, description="not supported")


class TextPart(Strict):
    type: str
    text: str | None = None


class CalledFunction(Strict):
    name: str = Field(max_length=128)
    arguments: str = Field(description="JSON")


class ToolCall(Strict):
    id: str = Field(max_length=128)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Strict):
    role: str = Field(max_length=64)
    content: str | list[TextPart] | None = None
    name: str | None = Field(None, max_length=128)
    tool_calls: list[ToolCall] | None = Field(None, description="of an earlier answer")
    tool_call_id: str | None = Field(None, max_length=128, description="of a message of role tool")


class Function(Strict):
    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="a JSON Schema")
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    name: str = Field(max_length=128)


class NamedTool(Strict):
    type: Literal["function"]
    function: FunctionName


class ChatRequest(Sampling):
    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0)

    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = Field(None, description="not supported")


class TokenizeRequest(Body):
    """A prompt, or messages as for a chat."""

    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Body):
    tokens: list[TokenId]
