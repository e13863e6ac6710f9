"""A runner that computes nothing, for tests of what stands around the real one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from peer.scheduler import Work
from peer.seat import Answer, Seat
from proto.messages import Chunk, Token, Want
from swarm.errors import Fault


class FakeRunner:
    """Answers every Chunk at once; a Token is its position. ``hold`` makes it wait in the middle of a Batch."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[bytes, int]]] = []
        self.threads: set[str] = set()
        self.error: Exception | None = None  # raised instead of answering
        self.faults: dict[bytes, Fault] = {}  # by session
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()

    async def started(self) -> None:
        """Returns once a Batch is with the runner."""
        assert await asyncio.to_thread(self.begun.wait, 10), "no batch came"

    def hold(self) -> None:
        self.open.clear()

    def release(self) -> None:
        self.open.set()

    def run(self, works: Sequence[Work[Seat]]) -> list[Answer | Fault]:
        self.batches.append([(work.seat.session, work.chunk.step) for work in works])
        self.begun.set()
        self.threads.add(threading.current_thread().name)
        assert self.open.wait(10), "held for too long"
        if self.error is not None:
            raise self.error
        return [self.faults.get(work.seat.session) or answer(work.chunk) for work in works]


def answer(chunk: Chunk) -> Answer:
    """As at the end of the model."""
    if chunk.want is Want.TOKEN:
        return (Token(chunk.step, chunk.end, chunk.end),)
    return chunk if chunk.want is Want.HIDDEN else ()
