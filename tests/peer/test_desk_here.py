"""A Route that comes by a Peer twice: its desk is its own neighbour."""

from __future__ import annotations

from proto.messages import Close, Done, Path, Token, Trouble
from swarm.errors import NoSeat
from swarm.span import Span
from tests.support.desks import A, B, C, Swarm, Table
from tests.support.seats import opening, tokens


async def test_a_route_that_comes_by_twice_needs_no_link():
    """Blocks 0:3 and 6:8 here, 3:6 at another; and a ring from here to here."""
    swarm = Swarm(Span(0, 8), Span(3, 6))
    here, there = swarm.tables
    swarm.say(0, opening(span=Span(0, 3), sampling=None), A)
    swarm.say(1, opening(span=Span(3, 6), sampling=None), B)
    swarm.say(0, opening(span=Span(6, 8), max_tokens=9), C)
    swarm.say(0, Path(0, there.seat(B), 0), A)
    swarm.say(1, Path(0, here.seat(C), 0), B)
    swarm.say(0, Path(0, None, 0, feed=here.seat(A)), C)
    swarm.heard.clear()
    swarm.say(0, tokens(0, 0, 4), A)
    drawn = [entry.body.token_id for _, entry in swarm.settle() if isinstance(entry.body, Token)]
    assert drawn == [4, 5, 6, 7, 8]
    assert {(source, target) for source, target, _ in swarm.sent} == {(0, 1), (1, 0)}


async def test_both_seats_at_one_table_without_any_neighbour():
    table = Table()
    table.say(opening(span=Span(0, 4), sampling=None), A)
    table.say(opening(span=Span(4, 8), max_tokens=7, prompt_tokens=4), B)
    table.say(Path(0, table.seat(B), 0), A)
    table.say(Path(0, None, 0, feed=table.seat(A)), B)
    table.say(tokens(0, 0, 4), A)
    heard = table.compute()
    assert [entry.body for entry in heard if entry.session == B] == [
        Token(step, 4 + step, 4 + step) for step in range(3)
    ]
    assert [entry.body for entry in heard if entry.session == A] == [Done(0, 4)]
    (first, _) = table.desk.seats
    assert first.outflow.idle and len(first.outflow._under_way) == 0, "its Done came back, too"


async def test_a_seat_here_that_is_closed_is_trouble_to_the_other_here():
    table = Table()
    table.say(opening(span=Span(0, 4), sampling=None), A)
    table.say(Path(0, table.seat(B), 0), A)
    table.say(tokens(0, 0), A)
    (entry,) = table.compute()
    assert entry.session == A and isinstance(entry.body, Trouble) and isinstance(entry.body.fault, NoSeat)
    assert table.say(Close()) == [] and table.desk._here.ears == {}
