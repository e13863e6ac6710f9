"""A Hop says something that cannot be: it loses its Seat, and the tokens are right all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from proto.messages import Advance, Body, Chunk, Done, Entry, Hidden, Opened, Token, Trouble, WireDType
from swarm.errors import (
    BadNumbers,
    DeadLink,
    Draining,
    Fault,
    Internal,
    NoRoute,
    NoSeat,
    OutOfOrder,
    Overflow,
    Refused,
    StaleEpoch,
    WrongModel,
)
from tests.client.sessions import SHAPES, Act, play
from tests.support.hash_engine import undisturbed
from tests.support.world import NEW, PROMPT, World

Lie = Callable[[Entry], Entry | None]  # None: there is nothing to bend here
NAN = b"\x00\x00\xc0\x7f"


def of_body(bend: Callable[[Body], Body | None]) -> Lie:
    def lie(entry: Entry) -> Entry | None:
        body = bend(entry.body)
        return None if body is None else replace(entry, body=body)

    return lie


def of_hidden(bend: Callable[[Hidden], Hidden]) -> Lie:
    def lie(body: Body) -> Body | None:
        return replace(body, hidden=bend(body.hidden)) if isinstance(body, Chunk) and body.hidden is not None else None

    return of_body(lie)


def halved(hidden: Hidden) -> Hidden:
    return Hidden(WireDType.BF16, hidden.rows, hidden.cols, hidden.data[: len(hidden.data) // 2])


FRAMES: dict[str, Lie] = {  # whoever is told them
    "another position": of_body(
        lambda b: replace(b, position=b.position + 1) if isinstance(b, Chunk | Token) else None
    ),
    "an earlier position": of_body(
        lambda b: replace(b, position=b.position - 1) if isinstance(b, Chunk | Token) and b.position else None
    ),
    "a wrong count": of_body(lambda b: replace(b, count=b.count + 1) if isinstance(b, Chunk) else None),
    "a future epoch": lambda entry: replace(entry, epoch=entry.epoch + 1),
    "another kind": of_body(lambda b: Advance() if isinstance(b, Chunk | Token | Done | Opened) else None),
    "trouble with a stranger": of_body(lambda b: Trouble("f" * 32, DeadLink("gone")) if isinstance(b, Done) else None),
    "a token outside the vocabulary": of_body(
        lambda b: replace(b, token_id=10**6) if isinstance(b, Token) else None
    ),
    "opened beyond the end": of_body(lambda b: replace(b, position=10**6) if isinstance(b, Opened) else None),
    "chunks of no tokens": of_body(lambda b: replace(b, max_chunk_tokens=0) if isinstance(b, Opened) else None),
}  # fmt: skip
ROWS: dict[str, Lie] = {  # the wire or the engine would find these on a direct way; here the client has to
    "rows too many": of_hidden(lambda h: replace(h, rows=h.rows + 1, data=h.data + h.data[:16])),
    "rows too few": of_hidden(lambda h: replace(h, rows=h.rows - 1, data=h.data[16:])),
    "short rows": of_hidden(lambda h: replace(h, data=h.data[:-1])),
    "another width": of_hidden(lambda h: replace(h, cols=h.cols + 1)),
    "another dtype": of_hidden(halved),
    "no number": of_hidden(lambda h: replace(h, data=h.data[:-4] + NAN)),
    "no rows": of_body(lambda b: replace(b, hidden=None) if isinstance(b, Chunk) else None),
}


class Liar:
    """Bends the first thing it can."""

    def __init__(self, number: int, lie: Lie):
        self.told: Body | None = None
        self._number, self._lie = number, lie

    def begin(self, world: World) -> None:
        world.list[self._number - 1].bend = self._bend

    def _bend(self, entry: Entry) -> Entry:
        bent = self._lie(entry) if self.told is None else None
        if bent is None:
            return entry
        self.told = entry.body
        return bent


def tell(shape: str, lie: Lie, *, step: int = 3) -> int:
    """Each Hop tells ``lie`` once, from every ``step``-th event on. Returns how often it was told."""
    told = 0
    for event in range(0, 90, step):
        liar = Liar(1 + event // step % 3, lie)
        outcome = play(shape=shape, at={event: liar.begin})
        assert outcome.tokens == undisturbed(PROMPT, NEW), f"from event {event}"
        told += liar.told is not None
    return told


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", FRAMES)
def test_what_cannot_be_is_not_believed(shape: str, kind: str):
    assert tell(shape, FRAMES[kind]) >= 1, "the lie was never told"


@pytest.mark.parametrize("kind", ROWS)
def test_rows_that_are_none_cost_the_hop_its_seat_and_not_the_next_one(kind: str):
    for number in (1, 2):
        for event in range(6, 90, 6):
            liar = Liar(number, ROWS[kind])
            outcome = play(shape="star", at={event: liar.begin})
            assert outcome.tokens == undisturbed(PROMPT, NEW)
            if liar.told is not None and outcome.route is not None:
                assert outcome.failovers == 1
                names = [int(hop.peer.peer_id, 16) for hop in outcome.route.hops]
                assert names == [n + 3 if n == number else n for n in (1, 2, 3)]


FAULTS: list[Fault] = [
    Internal("oops"), BadNumbers("NaN"), Draining("leaving"), NoSeat("expired"), Refused("full", 0.5), Refused("never"),
    StaleEpoch("old"), OutOfOrder("gap"), Overflow("too much"), WrongModel("other"), DeadLink("gone"),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{type(f).__name__} {f}")
def test_any_fault_instead_of_any_answer_is_survived(shape: str, fault: Fault):
    assert tell(shape, lambda entry: replace(entry, body=fault), step=5) >= 10


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["another position", "a future epoch", "another kind"])
def test_who_always_lies_is_left_for_good(shape: str, kind: str):
    def begin(world: World) -> None:
        world.list[1].bend = lambda entry: FRAMES[kind](entry) or entry

    outcome = play(shape=shape, before=begin)
    assert outcome.tokens == undisturbed(PROMPT, NEW)
    assert outcome.route is not None and f"{2:032x}" not in {hop.peer.peer_id for hop in outcome.route.hops}


def silent(number: int) -> Act:
    """It takes everything and says nothing."""
    return lambda world: setattr(world.list[number - 1], "bend", lambda entry: None)


@pytest.mark.parametrize("shape", SHAPES)
def test_peers_that_never_answer_an_open_are_tried_once_each_before_the_honest_one(shape: str):
    def begin(world: World) -> None:
        for number in (1, 2, 3, 4):
            silent(number)(world)

    outcome = play([(0, 6)] * 5, before=begin, shape=shape)
    assert outcome.tokens == undisturbed(PROMPT, NEW)
    assert outcome.took_s < 4 * 2.5 + 2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_hop_that_answers_questions_and_computes_nothing_is_given_up(shape: str):
    for event in (12, 30, 60):
        for number in (1, 2, 3):

            def sleep(world: World, number: int = number) -> None:
                world.list[number - 1].engine.step_s = 1e6

            outcome = play(shape=shape, at={event: sleep})
            assert outcome.tokens == undisturbed(PROMPT, NEW), f"{number} from event {event}"
            assert outcome.failovers == 1
            assert 10.0 <= outcome.took_s < 20.0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_busy_hop_that_gets_on_is_waited_for(shape: str):
    def slow(world: World) -> None:
        world.list[1].engine.step_s = 6.0

    outcome = play(shape=shape, at={30: slow}, new=3)
    assert (outcome.tokens, outcome.failovers) == (undisturbed(PROMPT, 3), 0)


def test_a_peer_that_fails_every_time_is_not_tried_for_ever():
    def begin(world: World) -> None:
        world.list[0].runner.answers_left = 0

    outcome = play([(0, 6)], before=begin)
    assert isinstance(outcome.error, NoRoute) and "no numbers came out" in str(outcome.error)
    assert outcome.took_s < 60
