"""The generating side: ``import client; client.generate("def fib(n):", swarm=["/ip4/…"], max_new_tokens=64)``."""

from __future__ import annotations

import logging

from client.async_client import AsyncClient
from client.client import Client
from client.config import ClientConfig
from client.once import chat, generate, stream
from client.result import Leg, Piece, Result, TokenLogprob
from client.sampling import Options
from client.stream import AsyncStream, Stream
from client.text import Message

logging.getLogger("shoal").addHandler(logging.NullHandler())  # what is said is for those who configured logging

__all__ = [
    "AsyncClient", "AsyncStream", "Client", "ClientConfig", "Leg", "Message", "Options", "Piece", "Result", "Stream",
    "TokenLogprob", "chat", "generate", "stream",
]  # fmt: skip
