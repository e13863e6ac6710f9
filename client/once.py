"""One call, one Client: join the swarm, do one thing, leave. For more than one call keep a ``Client``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from types import ModuleType
from typing import Any, Unpack, overload

from client.async_client import Prompt, Prompts
from client.client import Client
from client.result import Piece, Result
from client.sampling import Options, read_options
from client.stream import Stream
from client.text import Message

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


def stream(prompt: Prompt, *, swarm: Swarm = None, model: str | None = None, **options: Unpack[Options]) -> Stream:
    """``Client.stream`` with a Client of its own."""
    read_options(options)
    client = Client(swarm, model)

    def items() -> Generator[Piece | Result, None, None]:
        with client:
            yield from client.stream(prompt, **options).items

    return Stream(items())


def chat(
    messages: Sequence[Message], *, swarm: Swarm = None, model: str | None = None, **options: Unpack[Options]
) -> Result:
    """``Client.chat`` with a Client of its own."""
    with Client(swarm, model) as client:
        return client.chat(messages, **options)


def callable_module(name: str, function: Callable[..., Any]) -> None:
    """Makes the module ``name`` callable as ``function``.

    ``client.generate`` is a function, and ``python -m client.generate`` a module. Importing the module binds its name
    over the function's, so it has to do what the function does.
    """

    class Callable(ModuleType):
        __call__ = staticmethod(function)

    sys.modules[name].__class__ = Callable
