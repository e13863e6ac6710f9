"""Grammars: holds Opens and Forks back whose answers have to fit a grammar, until that is examined and compiled.

    Link ──▶ hold ──▶ (examiner, compiler: beside the loop and the compute thread) ──▶ desk.receive

The desk and the Seats so never wait for a grammar, nor know of one: what they get is ready to be drawn with, or a
Rejected. Held are at most MAX_HELD; what a Link held goes with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from model.grammar import apart
from proto.messages import Close, Entry, Fork, Open, Rejected
from swarm.errors import BadGrammar, Fault, Internal, ModelError, Refused
from swarm.sampling import Grammar

if TYPE_CHECKING:
    from model.constraint import Constraints
    from model.examiner import Examiner

MAX_HELD = 16
RETRY_AFTER_S = 1.0

log = structlog.get_logger("peer.grammars")

Key = tuple[Hashable, bytes]  # Link, Seat


class Examining(Protocol):
    """The part of ``model.examiner.Examiner`` that is used."""

    async def examine(self, grammar: Grammar) -> None: ...

    async def close(self) -> None: ...


class Preparing(Protocol):
    """The part of ``model.constraint.Constraints`` that is used."""

    def prepare(self, stream: Hashable, grammar: Grammar) -> None: ...


@dataclass(frozen=True, slots=True)
class Readers:
    """Who reads grammars, where the Head and a tokenizer are."""

    examiner: Examiner
    constraints: Constraints


class Grammars:
    """``receive`` is the desk's; ``grammar_of`` gives that of a Seat. Without ``readers`` every grammar is refused."""

    def __init__(
        self, receive: Callable[[Hashable, Entry | Rejected], None], grammar_of: Callable[[bytes], Grammar | None],
        readers: Readers | None = None,
    ):  # fmt: skip
        self._receive, self._grammar_of = receive, grammar_of
        self._examiner: Examining | None = None if readers is None else readers.examiner
        self._constraints: Preparing | None = None if readers is None else readers.constraints
        self._held: dict[Key, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, link: Hashable, item: Entry | Rejected) -> bool:
        """True: the desk gets ``item``, or what became of it, later."""
        if not isinstance(item, Entry) or not isinstance(item.body, Open | Fork | Close):
            return False
        body = item.body
        if not isinstance(body, Fork):
            self._drop((link, item.session))  # given up, or asked anew
        if isinstance(body, Open):
            stream, grammar = item.session, body.sampling.grammar if body.sampling is not None else None
        elif isinstance(body, Fork):
            stream, grammar = body.seat, self._grammar_of(item.session)
        else:
            return False
        if grammar is None:
            return False
        if self._examiner is None or self._constraints is None:
            none = BadGrammar("this peer takes no grammars: no tokenizer here")
            self._receive(link, Rejected(stream, item.epoch, none))
        elif len(self._held) >= MAX_HELD:
            self._receive(link, Rejected(stream, item.epoch, Refused("grammars are queued here", RETRY_AFTER_S)))
        else:
            work = self._prepare(link, item, stream, grammar, self._examiner, self._constraints)
            self._held[link, stream] = asyncio.create_task(work, name="grammar")
        return True

    async def close(self) -> None:
        """Drop what is held and end the examiner."""
        for key in list(self._held):
            self._drop(key)
        if self._examiner is not None:
            await self._examiner.close()

    def leave(self, link: Hashable) -> None:
        """The Link is gone, and nothing is to be opened for it."""
        for key in [key for key in self._held if key[0] == link]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        task = self._held.pop(key, None)
        if task is not None:
            task.cancel()

    async def _prepare(
        self, link: Hashable, item: Entry, stream: bytes, grammar: Grammar, examiner: Examining, constraints: Preparing
    ) -> None:
        ready: Entry | Rejected = item
        try:
            await examiner.examine(grammar)
            await asyncio.wrap_future(apart(constraints.prepare, stream, grammar))
        except Fault as fault:
            ready = Rejected(stream, item.epoch, fault)
        except ModelError as error:
            ready = Rejected(stream, item.epoch, BadGrammar(f"this peer takes no grammars: {error}"))
        except Exception as error:  # a mistake of ours: whoever asked is to hear, and nobody else
            log.exception("grammar failed", session=stream.hex()[:8])
            failed = Internal(f"this peer failed with a grammar ({type(error).__name__}); use another")
            ready = Rejected(stream, item.epoch, failed)
        del self._held[link, stream]
        self._receive(link, ready)
