from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peer.desk import Desk
from peer.engine import Engine
from peer.pages import PagePool
from peer.scheduler import Scheduler, Work
from peer.seats import Seats
from proto.messages import Advance, Body, Close, Done, Entry, Open, Opened, Rejected, Token, Want
from swarm.clock import VirtualClock
from swarm.errors import (
    BadNumbers,
    BadRequest,
    Draining,
    Fault,
    Internal,
    NoSeat,
    OutOfOrder,
    Overflow,
    Refused,
    StaleEpoch,
    WrongModel,
)
from tests.support.compute import answer
from tests.support.seats import opening, terms, tokens

A, B = b"a" * 16, b"b" * 16


class Pile:
    """An outbox that keeps everything, up to ``room`` entries of a Session that are not Faults."""

    def __init__(self, room: int = 1000):
        self.room = room
        self.entries: list[Entry] = []

    def put(self, entry: Entry) -> None:
        held = sum(known.session == entry.session for known in self.entries)
        if held >= self.room and not isinstance(entry.body, Fault):
            raise Overflow(f"{held} entries are waiting")
        self.entries.append(entry)

    def drop(self, session: bytes) -> None:
        self.entries = [entry for entry in self.entries if entry.session != session]

    def take(self) -> list[Entry]:
        taken, self.entries = self.entries, []
        return taken

    def faults(self) -> list[type]:
        return [type(entry.body) for entry in self.take()]


class Table:
    """A desk whose engine computes when told to."""

    def __init__(self, **changes: Any):
        self.clock = VirtualClock()
        self.pool = PagePool(64)
        self.scheduler: Scheduler[Any] = Scheduler(prefill_tokens=16, max_decodes=8)
        self.engine = Engine(self.scheduler)
        self.desk = Desk(Seats(terms(**changes), self.pool, self.clock), self.engine)
        self.pile = Pile()
        self.link = self.desk.join(self.pile)

    def say(self, body: Body, session: bytes = A, epoch: int = 0, link: int | None = None) -> list[Entry]:
        self.desk.receive(self.link if link is None else link, Entry(session, epoch, body))
        return self.pile.take()

    def compute(self, how: Callable[[Work[Any]], Any] = lambda work: answer(work.chunk)) -> list[Entry]:
        while (batch := self.scheduler.next_batch()) is not None:
            self.desk.deliver([(work, how(work)) for work in batch.works])
        return self.pile.take()


@pytest.fixture
async def table() -> Table:
    return Table()


async def test_open_a_step_and_close(table: Table):
    assert table.say(opening()) == [Entry(A, 0, Opened(0, 60.0, 16))]
    assert table.say(tokens(0, 0, 4)) == []
    assert table.compute() == [Entry(A, 0, Token(0, 4, 4))]
    assert table.say(Close()) == []
    assert table.pool.used == 0
    assert isinstance(table.say(tokens(1, 4))[0].body, NoSeat)


async def test_a_refused_open_is_a_fault_of_its_session_and_epoch(table: Table):
    (entry,) = table.say(opening(profile="f32"), epoch=3)
    assert (entry.session, entry.epoch, type(entry.body)) == (A, 3, WrongModel)


async def test_a_repeat_is_answered_from_memory_and_not_computed(table: Table):
    table.say(opening())
    table.say(tokens(0, 0))
    table.compute()
    assert table.say(tokens(0, 0)) == [Entry(A, 0, Token(0, 1, 1))]
    assert len(table.scheduler) == 0


async def test_a_repeat_of_what_is_being_computed_is_answered_once(table: Table):
    table.say(opening())
    assert table.say(tokens(0, 0)) == []
    assert table.say(tokens(0, 0)) == []
    assert table.compute() == [Entry(A, 0, Token(0, 1, 1))]


async def test_a_repair_after_advance_gets_one_answer_under_the_new_epoch(table: Table):
    table.say(opening())
    table.say(tokens(0, 0))
    assert table.say(Advance(), epoch=1) == [Entry(A, 1, Opened(1, 60.0, 16))]
    assert table.say(tokens(0, 0), epoch=1) == []
    assert table.compute() == [Entry(A, 1, Token(0, 1, 1))]


async def test_an_old_asker_hears_under_its_own_epoch_that_it_is_old(table: Table):
    table.say(opening())
    table.say(Advance(), epoch=2)
    (entry,) = table.say(tokens(0, 0), epoch=1)
    assert (entry.epoch, type(entry.body)) == (1, StaleEpoch)
    (entry,) = table.say(Advance(), epoch=1)
    assert (entry.epoch, type(entry.body)) == (1, StaleEpoch)


async def test_a_close_of_an_old_epoch_closes_nothing(table: Table):
    table.say(opening())
    table.say(Advance(), epoch=2)
    table.say(Close(), epoch=1)
    assert len(table.desk.seats) == 1
    table.say(Close(), epoch=2)
    assert len(table.desk.seats) == 0


async def test_a_gap_leaves_the_seat_where_it_was(table: Table):
    table.say(opening())
    assert isinstance(table.say(tokens(0, 3))[0].body, OutOfOrder)
    assert table.say(tokens(0, 0)) == []


async def test_a_fault_from_the_client_gives_the_seat_up(table: Table):
    table.say(opening())
    assert table.say(Internal("client gave up")) == []
    assert table.pool.used == 0


async def test_a_rejected_entry_is_told_to_its_session_only(table: Table):
    table.say(opening(), session=B)
    table.desk.receive(table.link, Rejected(A, 1, BadRequest("chunk of 0 tokens")))
    (entry,) = table.pile.take()
    assert (entry.session, entry.epoch, type(entry.body)) == (A, 1, BadRequest)
    assert len(table.desk.seats) == 1


@pytest.mark.parametrize("body", [Token(0, 0, 1), Done(0), Opened(0, 1.0, 1)])
async def test_what_only_a_peer_says_is_a_bad_request(table: Table, body: Body):
    assert isinstance(table.say(body)[0].body, BadRequest)


async def test_a_failed_step_closes_only_its_seat(table: Table):
    for session in (A, B):
        table.say(opening(), session=session)
        table.say(tokens(0, 0), session=session)
    entries = table.compute(lambda work: BadNumbers("NaN") if work.seat.session == A else answer(work.chunk))
    assert {(entry.session, type(entry.body)) for entry in entries} == {(A, BadNumbers), (B, Token)}
    assert [seat.session for seat in table.desk.seats] == [B]


async def test_what_a_failed_seat_had_queued_is_forgotten(table: Table):
    table.say(opening())
    table.say(tokens(0, 0, 4, Want.NOTHING))
    table.say(tokens(1, 4))
    assert [type(entry.body) for entry in table.compute(lambda work: Internal("broken"))] == [Internal]
    assert table.engine.queue_tokens == 0


async def test_a_lost_link_frees_its_seats_and_its_queue_and_late_answers_go_nowhere(table: Table):
    table.say(opening())
    table.say(tokens(0, 0))
    batch = table.scheduler.next_batch()
    assert batch is not None
    table.say(tokens(1, 1))
    table.desk.leave(table.link)
    assert (table.pool.used, table.engine.queue_tokens, table.desk.num_links) == (0, 0, 0)
    table.desk.deliver([(work, answer(work.chunk)) for work in batch.works])
    assert table.pile.take() == []


async def test_a_late_answer_does_not_reach_the_seat_that_took_the_place(table: Table):
    table.say(opening())
    table.say(tokens(0, 0))
    batch = table.scheduler.next_batch()
    assert batch is not None
    table.say(opening(), epoch=1)
    table.desk.deliver([(work, answer(work.chunk)) for work in batch.works])
    assert table.pile.take() == []


async def test_a_replaced_seat_leaves_nothing_in_the_queue(table: Table):
    table.say(opening())
    table.say(tokens(0, 0))
    table.say(opening(), epoch=1)
    assert table.engine.queue_tokens == 0


async def test_a_stranger_can_do_nothing_to_a_seat(table: Table):
    table.say(opening())
    theirs = Pile()
    stranger = table.desk.join(theirs)
    for body, fault in ((opening(), Refused), (tokens(0, 0), NoSeat), (Advance(), NoSeat)):
        table.say(body, epoch=9, link=stranger)
        assert theirs.faults() == [fault]
    table.say(Close(), epoch=9, link=stranger)
    assert len(table.desk.seats) == 1
    assert table.say(tokens(0, 0)) == []
    assert table.compute() == [Entry(A, 0, Token(0, 1, 1))]


async def test_a_session_that_does_not_read_loses_its_seat_and_no_other_does(table: Table):
    for session in (A, B):
        table.say(opening(), session=session)
    table.pile.room = 2
    for step in range(3):
        table.desk.receive(table.link, Entry(A, 0, tokens(step, step)))
        for work in table.scheduler.next_batch().works:  # type: ignore[union-attr]
            table.desk.deliver([(work, answer(work.chunk))])
    assert [(entry.session, type(entry.body)) for entry in table.pile.take()] == [(A, Overflow)]
    assert [seat.session for seat in table.desk.seats] == [B]
    table.say(tokens(0, 0), session=B)
    assert len(table.compute()) == 1


async def test_the_sweep_frees_silent_seats_and_says_so(table: Table):
    table.say(opening())
    table.clock.advance(59)
    table.desk.sweep()
    table.say(tokens(0, 0))
    table.clock.advance(100)
    table.desk.sweep()
    assert len(table.desk.seats) == 1, "a seat waits for us, not we for it"
    table.compute()
    table.clock.advance(60)
    table.desk.sweep()
    assert [type(entry.body) for entry in table.pile.take()] == [NoSeat]
    assert table.pool.used == 0


async def test_an_answer_renews_the_lease_as_a_step_does(table: Table):
    table.say(opening())
    table.say(tokens(0, 0))
    table.clock.advance(59)
    table.compute()
    table.clock.advance(59)
    table.desk.sweep()
    assert len(table.desk.seats) == 1


async def test_a_draining_desk_finishes_what_it_has_and_then_sends_the_rest_away(table: Table):
    table.say(opening())
    table.desk.drain()
    assert isinstance(table.say(opening(), session=B)[0].body, Draining)
    table.say(tokens(0, 0))
    assert len(table.compute()) == 1
    table.desk.evict()
    assert [type(entry.body) for entry in table.pile.take()] == [Draining]
    assert table.pool.used == 0


async def test_open_checks_are_those_of_the_books(table: Table):
    request: Open = opening(max_tokens=129)
    assert isinstance(table.say(request)[0].body, Refused)
