"""What may be in a request, as pydantic models. Unknown fields are ignored; ``null`` means: not given.

Fields for what the sampler cannot do yet are here too, so that they are refused by name (``gateway.wishes``) and not
lost in silence. Ranges are checked once, where they are known: by ``client.sampling``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

TokenId = Annotated[StrictInt, Field(ge=0, lt=1 << 32)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(None, max_length=512, description="a name in /v1/models, name@fingerprint, or an alias")


class StreamOptions(BaseModel):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


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

    logit_bias: dict[str, float] | None = Field(None, description="not supported yet")
    min_tokens: int | None = Field(None, description="not supported yet")
    response_format: dict[str, Any] | None = Field(None, description='"text" only, as yet')


class CompletionRequest(Sampling):
    prompt: str | list[str] | TokenIds | list[TokenIds]
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0)
    suffix: str | None = Field(None, description="not supported")


class TextPart(BaseModel):
    type: str
    text: str | None = None


class ChatMessage(BaseModel):
    role: str = Field(max_length=64)
    content: str | list[TextPart] | None = None
    tool_calls: list[Any] | None = Field(None, description="not supported yet")


class ChatRequest(Sampling):
    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0)

    tools: list[Any] | None = Field(None, description="not supported yet")
    tool_choice: str | dict[str, Any] | None = None
    functions: list[Any] | None = Field(None, description="not supported")


class TokenizeRequest(Body):
    """A prompt, or messages as for a chat."""

    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Body):
    tokens: list[TokenId]
