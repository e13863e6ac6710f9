"""The generating side: ``import client; client.generate("def fib(n):", swarm=["/ip4/…"], max_new_tokens=64)``.

The functions here join the swarm, do one thing and leave. For more than one call, keep a ``Client``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Unpack, overload

from client.async_client import AsyncClient, Prompt, Prompts
from client.client import Client
from client.config import ClientConfig
from client.result import Leg, Piece, Result, TokenLogprob
from client.sampling import Options
from client.text import Message

__all__ = [
    "AsyncClient", "Client", "ClientConfig", "Leg", "Message", "Options", "Piece", "Result", "TokenLogprob",
    "chat", "generate", "stream",
]  # fmt: skip

Swarm = str | Sequence[str] | None


@overload
def generate(
    prompt: Prompt, *, swarm: Swarm = None, model: str | None = None, **options: Unpack[Options]
) -> Result: ...
@overload
def generate(
    prompt: Prompts, *, swarm: Swarm = None, model: str | None = None, **options: Unpack[Options]
) -> list[Result]: ...
def generate(
    prompt: Prompt | Prompts, *, swarm: Swarm = None, model: str | None = None, **options: Unpack[Options]
) -> Result | list[Result]:
    """``Client.generate`` with a Client of its own."""
    with Client(swarm, model) as client:
        return client.generate(prompt, **options)


def stream(
    prompt: Prompt, *, swarm: Swarm = None, model: str | None = None, **options: Unpack[Options]
) -> Generator[Piece | Result, None, None]:
    """``Client.stream`` with a Client of its own."""
    with Client(swarm, model) as client:
        yield from client.stream(prompt, **options)


def chat(
    messages: Sequence[Message], *, swarm: Swarm = None, model: str | None = None, **options: Unpack[Options]
) -> Result:
    """``Client.chat`` with a Client of its own."""
    with Client(swarm, model) as client:
        return client.chat(messages, **options)
