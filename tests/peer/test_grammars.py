"""Opens and Forks with a grammar wait for it beside the desk; everything else passes, and what is left drops them."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest

from peer.grammars import MAX_HELD, Grammars
from proto.messages import Advance, Close, Entry, Fork, Rejected
from swarm.errors import BadGrammar, CorruptCheckpoint, Fault, Internal, Refused
from swarm.sampling import Grammar, GrammarKind, SamplingParams
from tests.support.desks import A, B
from tests.support.seats import opening

GRAMMAR = Grammar(GrammarKind.LARK, "start: x")
PLAIN = Entry(A, 0, opening())
BOUND = Entry(A, 0, replace(opening(), sampling=SamplingParams(grammar=GRAMMAR)))


class Readers:
    """An examiner that waits for ``go``, and what is prepared."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.error: Exception | None = None
        self.prepared: list[Hashable] = []
        self.closed = False
        self.examiner = self.constraints = self

    async def examine(self, grammar: Grammar) -> None:
        assert grammar == GRAMMAR
        await self.go.wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed = True

    def prepare(self, stream: Hashable, grammar: Grammar) -> None:
        self.prepared.append(stream)


class Room:
    def __init__(self, *, readers: bool = True):
        self.readers = Readers()
        self.received: list[tuple[Hashable, Entry | Rejected]] = []
        self.changed = asyncio.Event()
        known: Any = self.readers if readers else None
        self.grammars = Grammars(self._receive, {A: GRAMMAR}.get, known)

    def _receive(self, link: Hashable, item: Entry | Rejected) -> None:
        self.received.append((link, item))
        self.changed.set()

    async def went(self) -> tuple[Hashable, Entry | Rejected]:
        """What reaches the desk next."""
        async with asyncio.timeout(5):
            await self.changed.wait()
        self.changed.clear()
        return self.received[-1]


async def test_what_has_no_grammar_is_none_of_its_business():
    room = Room()
    other = Entry(B, 0, Fork(A, 3, 4, SamplingParams()))
    for item in (PLAIN, other, Entry(A, 0, Close()), Entry(A, 1, Advance()), Rejected(A, 0, Refused("x"))):
        assert not room.grammars.hold(1, item)
    assert not room.received and not len(room.grammars)


async def test_an_open_goes_on_once_its_grammar_is_ready():
    room = Room()
    assert room.grammars.hold(1, BOUND) and len(room.grammars) == 1
    await asyncio.sleep(0)
    assert not room.received
    room.readers.go.set()
    assert await room.went() == (1, BOUND)
    assert room.readers.prepared == [A] and not len(room.grammars)


async def test_a_fork_is_prepared_for_the_new_seat():
    room = Room()
    fork = Entry(A, 3, Fork(B, 3, 4, SamplingParams()))
    room.readers.go.set()
    assert room.grammars.hold(1, fork)
    assert await room.went() == (1, fork) and room.readers.prepared == [B]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadGrammar("grammar: no"), BadGrammar), (Refused("later", 1.0), Refused),
        (CorruptCheckpoint("no tokenizer"), BadGrammar), (ValueError("ours"), Internal),
    ],
)  # fmt: skip
@pytest.mark.parametrize("session", [A, B])
async def test_what_fails_is_told_under_the_seat_and_epoch_that_asked(
    error: Exception, kind: type[Fault], session: bytes
):
    room = Room()
    room.readers.error = error
    room.readers.go.set()
    asked = replace(BOUND, epoch=4) if session == A else Entry(A, 4, Fork(B, 3, 4, SamplingParams()))
    assert room.grammars.hold(1, asked)
    _, told = await room.went()
    assert isinstance(told, Rejected) and (told.session, told.epoch, type(told.fault)) == (session, 4, kind)
    assert not room.readers.prepared and not len(room.grammars)


@pytest.mark.parametrize("how", ["close", "leave", "again", "plain"])
async def test_what_is_given_up_opens_nothing(how: str):
    room = Room()
    room.grammars.hold(1, BOUND)
    room.grammars.hold(2, BOUND)
    newer = replace(BOUND, epoch=1)
    if how == "leave":
        room.grammars.leave(1)
    elif how == "close":
        assert not room.grammars.hold(1, Entry(A, 0, Close()))
    else:
        assert room.grammars.hold(1, newer if how == "again" else replace(PLAIN, epoch=1)) is (how == "again")
    room.readers.go.set()
    async with asyncio.timeout(5):
        while len(room.grammars):  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert sorted(room.received, key=str) == sorted([(2, BOUND), *([(1, newer)] if how == "again" else [])], key=str)


async def test_only_so_many_wait():
    room = Room()
    for link in range(MAX_HELD):
        assert room.grammars.hold(link, BOUND)
    assert room.grammars.hold(MAX_HELD, BOUND)
    _, told = room.received[0]
    assert isinstance(told, Rejected) and isinstance(told.fault, Refused) and told.fault.retry_after_s
    await room.grammars.close()
    assert room.readers.closed and not len(room.grammars)


async def test_who_cannot_read_grammars_refuses_them():
    room = Room(readers=False)
    assert room.grammars.hold(1, BOUND)
    _, told = room.received[0]
    assert isinstance(told, Rejected) and isinstance(told.fault, BadGrammar)
    await room.grammars.close()
