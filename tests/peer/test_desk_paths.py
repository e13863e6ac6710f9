"""What one desk does with Chunks, Paths and answers; who commands and who is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.desk import MAX_EARLY
from proto.messages import Advance, Chunk, Done, Entry, Kept, Path, Timing, Token, Want
from swarm.errors import BadRequest, OutOfOrder, Overflow
from swarm.span import Span
from tests.support.desks import A, B, Pile, Table, rows_from
from tests.support.seats import hidden, opening, tokens


@pytest.fixture
async def table() -> Table:
    return Table()


async def test_a_chunk_may_come_over_any_link_that_knows_the_seat(table: Table):
    """Its sender hears how far the Seat is; what is drawn is the client's."""
    table.begin()
    theirs = Pile()
    hop = table.desk.join(theirs)
    table.say(tokens(0, 0, 4), link=hop)
    assert table.compute() == [Entry(A, 0, Token(0, 4, 4))]
    assert theirs.take() == [Entry(A, 0, Done(0, 4))]
    table.say(tokens(1, 2), link=hop)
    assert theirs.bodies() == [OutOfOrder] and table.pile.take() == []


async def test_single_positions_are_not_answered_and_the_last_part_of_a_chunk_is(table: Table):
    table.begin()
    table.say(tokens(0, 0, 1, Want.NOTHING))
    assert table.compute() == []
    table.say(tokens(1, 1, 16, Want.NOTHING))
    (work,) = table.batch()
    first, second = work.chunk.split(15)
    assert table.deliver([replace(work, chunk=first)]) == []
    assert table.deliver([replace(work, chunk=second)]) == [Entry(A, 0, Done(1, 17))]


async def test_what_comes_before_the_path_waits_for_it_in_order(table: Table):
    table.say(opening())
    for position in range(3):
        assert table.say(tokens(position, position)) == []
    assert table.engine.queue_tokens == 0
    assert table.say(Path(0, None, 0)) == []
    assert table.compute() == [Entry(A, 0, Token(step, step + 1, step + 1)) for step in range(3)]


async def test_only_so_much_waits_for_a_path(table: Table):
    table.say(opening())
    for position in range(MAX_EARLY):
        assert table.say(tokens(position, position)) == []
    assert [type(entry.body) for entry in table.say(tokens(MAX_EARLY, MAX_EARLY))] == [Overflow]
    table.say(Path(0, None, 0))
    assert len(table.compute()) == MAX_EARLY


async def test_what_waited_for_the_path_of_an_old_epoch_is_forgotten(table: Table):
    table.say(opening())
    table.say(tokens(0, 0))
    table.say(Advance(), epoch=1)
    table.say(Path(0, None, 0), epoch=1)
    assert table.compute() == []
    table.say(tokens(0, 0), epoch=1)
    assert table.compute() == [Entry(A, 1, Token(0, 1, 1))]


async def test_a_path_that_makes_no_sense_is_a_fault_and_the_seat_stays(table: Table):
    table.say(opening())
    (entry,) = table.say(Path(0, table.seat(B), 0))
    assert isinstance(entry.body, BadRequest)
    (entry,) = table.say(Path(0, None, 0), epoch=4)
    assert (entry.epoch, type(entry.body)) == (4, OutOfOrder)
    assert len(table.desk.seats) == 1


async def test_rows_before_the_end_go_to_the_client_where_it_carries_and_at_the_end_where_it_wants_them(table: Table):
    table.begin(opening(span=Span(0, 4), sampling=None))
    chunk = tokens(0, 0, 4)
    table.say(chunk)
    assert table.compute() == [Entry(A, 0, Done(0, 4)), Entry(A, 0, rows_from(chunk))]
    table.begin(opening(span=Span(4, 8), sampling=None), session=B)
    table.say(hidden(3, 0), session=B)
    assert table.compute() == [Entry(B, 0, rows_from(hidden(3, 0)))]


async def test_at_the_end_rows_may_be_wanted_after_positions_of_which_none_were(table: Table):
    table.begin(opening(span=Span(4, 8), sampling=None))
    for chunk in (hidden(0, 0, want=Want.NOTHING), hidden(1, 1)):
        table.say(chunk)
    assert table.compute() == [Entry(A, 0, rows_from(hidden(1, 1)))]


async def test_drafts_that_were_wrong_leave_the_queue(table: Table):
    table.begin()
    drafted = Chunk(0, 0, 4, Want.TOKEN, token_ids=(0, 1, 9, 9), drafts=(1, 9, 9))
    table.say(drafted)
    assert [entry.body for entry in table.compute()] == [Done(0, 4), Token(0, 1, 1), Token(0, 2, 2)]
    table.say(tokens(1, 2))
    (seat,) = table.desk.seats
    assert (seat.position, seat.done) == (3, 2)
    assert table.compute() == [Entry(A, 0, Token(1, 3, 3))]
    assert len(seat.pages) == 1


async def test_pages_that_are_full_are_named_to_the_client_whoever_sent_the_rows(table: Table):
    table.begin()
    table.say(tokens(0, 0, 9), link=table.desk.join(Pile()))
    table.compute()
    (entry,) = table.pile.kept
    assert isinstance(entry.body, Kept) and (entry.session, entry.body.first) == (A, 0)
    assert len(entry.body.digests) == 2


async def test_tokens_say_where_their_time_went_where_that_was_asked_for(table: Table):
    before = (Timing(0, 1.0, 2.0),)
    for wanted, timings in ((False, ()), (True, (*before, Timing(4, 0.5, 0.25)))):
        session = bytes([wanted]) * 16
        table.begin(opening(span=Span(4, 8), timing=wanted), session=session)
        table.say(replace(hidden(0, 0, want=Want.TOKEN), timings=before), session=session)
        assert table.compute() == [Entry(session, 0, Token(0, 1, 1, timings=timings))]
