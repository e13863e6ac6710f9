"""One desk and its clients. Neighbours are in test_desk_neighbours."""

from __future__ import annotations

import pytest

from peer.engine import Output
from proto.messages import (
    Advance,
    Body,
    Close,
    Done,
    Entry,
    Kept,
    Open,
    Opened,
    Path,
    Rejected,
    Token,
    Trouble,
    Want,
)
from swarm.errors import (
    BadNumbers,
    BadRequest,
    Draining,
    Internal,
    NoSeat,
    OutOfOrder,
    Overflow,
    Refused,
    StaleEpoch,
    WrongModel,
)
from tests.support.desks import A, B, Pile, Table, answer_to
from tests.support.seats import opening, tokens


@pytest.fixture
async def table() -> Table:
    return Table()


async def test_open_a_step_and_close(table: Table):
    assert table.say(opening()) == [Entry(A, 0, Opened(0, 60.0, 16))]
    assert table.say(Path(0, None, 0)) == []
    assert table.say(tokens(0, 0, 4)) == []
    assert table.compute() == [Entry(A, 0, Done(0, 4)), Entry(A, 0, Token(0, 4, 4))]
    assert table.say(Close()) == []
    assert table.pool.used == 0
    assert isinstance(table.say(tokens(1, 4))[0].body, NoSeat)


async def test_a_refused_open_is_a_fault_of_its_session_and_epoch(table: Table):
    (entry,) = table.say(opening(profile="f32"), epoch=3)
    assert (entry.session, entry.epoch, type(entry.body)) == (A, 3, WrongModel)


async def test_a_repeat_is_answered_from_memory_and_not_computed(table: Table):
    table.begin()
    table.say(tokens(0, 0))
    table.compute()
    assert table.say(tokens(0, 0)) == [Entry(A, 0, Token(0, 1, 1))]
    assert len(table.scheduler) == 0


async def test_a_repeat_of_what_is_being_computed_is_answered_once(table: Table):
    table.begin()
    assert table.say(tokens(0, 0)) == []
    assert table.say(tokens(0, 0)) == []
    assert table.compute() == [Entry(A, 0, Token(0, 1, 1))]


async def test_after_advance_nothing_old_comes_out_and_nothing_new_is_taken_before_a_path(table: Table):
    table.begin()
    table.say(tokens(0, 0))
    table.say(tokens(1, 1))
    assert table.say(Advance(), epoch=1) == [Entry(A, 1, Opened(0, 60.0, 16))]
    assert table.engine.queue_tokens == 0
    assert table.say(tokens(0, 0), epoch=1) == [] and table.compute() == []
    table.say(Path(0, None, 0), epoch=1)
    assert table.compute() == [Entry(A, 1, Token(0, 1, 1))]


async def test_an_old_asker_hears_under_its_own_epoch_that_it_is_old(table: Table):
    table.begin()
    table.say(Advance(), epoch=2)
    (entry,) = table.say(tokens(0, 0), epoch=1)
    assert (entry.epoch, type(entry.body)) == (1, StaleEpoch)
    (entry,) = table.say(Advance(), epoch=1)
    assert (entry.epoch, type(entry.body)) == (1, StaleEpoch)


async def test_a_close_of_an_old_epoch_closes_nothing(table: Table):
    table.begin()
    table.say(Advance(), epoch=2)
    table.say(Close(), epoch=1)
    assert len(table.desk.seats) == 1
    table.say(Close(), epoch=2)
    assert len(table.desk.seats) == 0


async def test_a_gap_leaves_the_seat_where_it_was(table: Table):
    table.begin()
    assert isinstance(table.say(tokens(0, 3))[0].body, OutOfOrder)
    assert table.say(tokens(0, 0)) == []


async def test_a_fault_from_the_client_gives_the_seat_up(table: Table):
    table.begin()
    assert table.say(Internal("client gave up")) == []
    assert table.pool.used == 0


async def test_a_rejected_entry_is_told_to_its_session_only(table: Table):
    table.begin(session=B)
    table.desk.receive(table.link, Rejected(A, 1, BadRequest("chunk of 0 tokens")))
    (entry,) = table.pile.take()
    assert (entry.session, entry.epoch, type(entry.body)) == (A, 1, BadRequest)
    assert len(table.desk.seats) == 1


@pytest.mark.parametrize(
    "body", [Token(0, 0, 1), Done(0, 0), Opened(0, 1.0, 1), Kept(0, ()), Trouble("f" * 32, NoSeat("gone"))]
)
async def test_what_only_a_peer_says_is_a_bad_request(table: Table, body: Body):
    assert isinstance(table.say(body)[0].body, BadRequest)


async def test_a_failed_step_closes_only_its_seat(table: Table):
    for session in (A, B):
        table.begin(session=session)
        table.say(tokens(0, 0), session=session)
    entries = table.compute(lambda work: BadNumbers("NaN") if work.seat.session == A else answer_to(work))
    assert {(entry.session, type(entry.body)) for entry in entries} == {(A, BadNumbers), (B, Token)}
    assert [seat.session for seat in table.desk.seats] == [B]


async def test_what_a_failed_seat_had_queued_is_forgotten(table: Table):
    table.begin()
    table.say(tokens(0, 0, 4, Want.NOTHING))
    table.say(tokens(1, 4))
    assert [type(entry.body) for entry in table.compute(lambda work: Internal("broken"))] == [Internal]
    assert table.engine.queue_tokens == 0


async def test_a_lost_link_frees_its_seats_and_its_queue_and_late_answers_go_nowhere(table: Table):
    table.begin()
    table.say(tokens(0, 0))
    works = table.batch()
    assert works
    table.say(tokens(1, 1))
    table.desk.leave(table.link)
    assert (table.pool.used, table.engine.queue_tokens, table.desk.num_links) == (0, 0, 0)
    assert table.deliver(works) == []


async def test_a_late_answer_does_not_reach_the_seat_that_took_the_place(table: Table):
    table.begin()
    table.say(tokens(0, 0))
    works = table.batch()
    assert works
    table.say(opening(), epoch=1)
    assert table.deliver(works) == []


async def test_a_replaced_seat_leaves_nothing_in_the_queue(table: Table):
    table.begin()
    table.say(tokens(0, 0))
    table.say(opening(), epoch=1)
    assert table.engine.queue_tokens == 0


async def test_a_seat_given_up_for_one_that_is_refused_leaves_nothing_either(table: Table):
    table.begin()
    table.say(tokens(0, 0))
    (entry,) = table.say(opening(profile="f32"), epoch=1)
    assert isinstance(entry.body, WrongModel)
    assert (len(table.desk.seats), table.engine.queue_tokens, table.pool.owed) == (0, 0, 0)


async def test_only_the_link_that_opened_a_seat_commands_it(table: Table):
    table.begin()
    theirs = Pile()
    stranger = table.desk.join(theirs)
    for body, fault in ((opening(), Refused), (Advance(), NoSeat), (Path(0, None, 0), NoSeat)):
        table.say(body, epoch=9, link=stranger)
        assert theirs.bodies() == [fault]
    for body in (Close(), Internal("I give up")):
        table.say(body, epoch=9, link=stranger)
    assert len(table.desk.seats) == 1
    assert table.say(tokens(0, 0)) == []
    assert table.compute() == [Entry(A, 0, Token(0, 1, 1))]


async def test_a_session_that_does_not_read_loses_its_seat_and_no_other_does(table: Table):
    for session in (A, B):
        table.begin(session=session)
    table.pile.room = 2
    for step in range(3):
        table.desk.receive(table.link, Entry(A, 0, tokens(step, step)))
        table.desk.deliver([Output(work, answer_to(work), 0, 0) for work in table.batch()])
    assert [(entry.session, type(entry.body)) for entry in table.pile.take()] == [(A, Overflow)]
    assert [seat.session for seat in table.desk.seats] == [B]
    table.say(tokens(0, 0), session=B)
    assert len(table.compute()) == 1


async def test_the_sweep_frees_silent_seats_and_says_so(table: Table):
    table.begin()
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
    table.begin()
    table.say(tokens(0, 0))
    table.clock.advance(59)
    table.compute()
    table.clock.advance(59)
    table.desk.sweep()
    assert len(table.desk.seats) == 1


async def test_a_draining_desk_finishes_what_it_has_and_then_sends_the_rest_away(table: Table):
    table.begin()
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


async def test_a_peer_that_leaves_ends_its_links_once_they_are_written(table: Table):
    table.desk.hang_up()
    assert table.pile.closed


async def test_the_client_of_a_link_is_whose_its_seats_are(table: Table):
    table.desk.introduce(table.link, "somebody")
    table.begin()
    assert [seat.client for seat in table.desk.seats] == ["somebody"]
    table.desk.leave(table.link)
    assert table.desk.num_links == 0
