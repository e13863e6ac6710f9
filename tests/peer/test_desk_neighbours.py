"""Two and three desks in one process: chain, ring, and what the client hears when one of them is in trouble."""

from __future__ import annotations

from typing import Any

import pytest

from peer.desk import MAX_EARLY
from proto.messages import Advance, Chunk, Close, Done, Entry, Opened, Path, Timing, Token, Trouble, Want
from proto.outflow import WINDOW
from swarm.errors import BadNumbers, DeadLink, NoSeat, Overflow
from swarm.span import Span
from tests.support.desks import A, B, C, Pile, Swarm, rows_from
from tests.support.seats import opening, tokens

FIRST, MIDDLE, LAST = Span(0, 3), Span(3, 6), Span(6, 8)
SEATS = (A, B, C)


def open_all(swarm: Swarm, *, epoch: int = 0, only: tuple[int, ...] = (), **changes: Any) -> None:
    """A Seat at every table, or at some; each has another id. What concerns drawing is for the last."""
    for number, table in enumerate(swarm.tables):
        span = table.desk.seats.terms.span
        drawing = ("stop_token_ids", "draft_tokens", "history")
        here = {key: value for key, value in changes.items() if span.end == 8 or key not in drawing}
        if span.end < 8:
            here["sampling"] = None
        if not only or number in only:
            swarm.say(number, opening(span=span, **here), SEATS[number], epoch)


def lead(swarm: Swarm, number: int, *, ring: bool = False, epoch: int = 0, position: int = 0, **how: Any) -> None:
    """The Path of one Hop of a chain over all tables, in their order."""
    last = number == len(swarm.tables) - 1
    following = None if last else swarm.tables[number + 1].seat(SEATS[number + 1])
    feed = swarm.tables[0].seat(A) if ring and last else None
    path = Path(position, following, how.get("next_position", 0), feed, how.get("num_tokens", 0), how.get("step", 0))
    swarm.say(number, path, SEATS[number], epoch)


def lead_all(swarm: Swarm, *, ring: bool = False) -> None:
    for number in range(len(swarm.tables)):
        lead(swarm, number, ring=ring)


def chained(*spans: Span, ring: bool = False, **changes: Any) -> Swarm:
    swarm = Swarm(*(spans or (FIRST, MIDDLE, LAST)))
    open_all(swarm, **changes)
    lead_all(swarm, ring=ring)
    swarm.heard.clear()
    return swarm


def texts(heard: list[tuple[int, Entry]]) -> list[int]:
    """The tokens that the client heard, which are their positions here, in the order of hearing."""
    return [entry.body.token_id for _, entry in heard if isinstance(entry.body, Token)]


def troubles(heard: list[tuple[int, Entry]]) -> list[tuple[int, str, type]]:
    return [
        (number, entry.body.peer_id, type(entry.body.fault))
        for number, entry in heard
        if isinstance(entry.body, Trouble)
    ]


async def test_in_a_chain_the_client_sends_to_the_first_and_hears_from_the_last():
    swarm = chained()
    swarm.say(0, tokens(0, 0, 4), A)
    assert swarm.settle() == [(0, Entry(A, 0, Done(0, 4))), (2, Entry(C, 0, Token(0, 4, 4)))]
    swarm.say(0, tokens(1, 4), A)
    assert swarm.settle() == [(2, Entry(C, 0, Token(1, 5, 5)))]
    assert [(source, target, entry.session) for source, target, entry in swarm.sent] == [(0, 1, B), (1, 2, C)] * 2
    assert [seat.position for table in swarm.tables for seat in table.desk.seats] == [5, 5, 5]


async def test_rows_cross_a_boundary_as_they_were_computed():
    swarm = chained()
    chunk = tokens(7, 0, 3)
    swarm.say(0, chunk, A)
    swarm.settle()
    assert swarm.sent[0] == (0, 1, Entry(B, 0, rows_from(chunk)))


async def test_a_prompt_is_in_several_hops_at_a_time_and_never_runs_ahead_of_the_window():
    swarm = chained(max_tokens=128)
    for index in range(7):
        swarm.say(0, tokens(index, 16 * index, 16, Want.NOTHING if index < 6 else Want.TOKEN), A)
    under_way, busy = 0, 0
    while swarm.step():
        sent = sum(target == 1 for _, target, _ in swarm.sent)
        (seat,) = swarm.tables[1].desk.seats
        under_way = max(under_way, sent - seat.done // 16)
        busy = max(busy, sum(table.scheduler.queue_tokens > 0 for table in swarm.tables))
    assert under_way <= WINDOW and busy == 3
    assert texts(swarm.heard) == [112]


async def test_in_a_ring_one_prompt_brings_all_tokens_and_it_ends_where_it_must():
    swarm = chained(ring=True, max_tokens=12, prompt_tokens=4)
    swarm.say(0, tokens(0, 0, 4), A)
    assert texts(swarm.settle()) == list(range(4, 12))
    assert {entry.session for _, target, entry in swarm.sent if target == 0} == {A}


async def test_a_ring_stops_after_a_stop_id_and_goes_on_when_the_client_wants_that():
    swarm = chained(ring=True, max_tokens=20, stop_token_ids=(9,))
    swarm.say(0, tokens(0, 0, 4), A)
    assert texts(swarm.settle()) == [4, 5, 6, 7, 8, 9]
    swarm.say(0, tokens(50, 9), A)
    assert texts(swarm.settle()) == list(range(10, 20))


async def test_a_ring_with_drafts_draws_the_same_tokens_in_fewer_steps():
    """Tokens are their positions, so what was in the prompt comes again."""
    history = tuple(range(60))
    plain, drafted = (
        chained(ring=True, max_tokens=60, history=history, draft_tokens=most) for most in (0, 3)
    )  # fmt: skip
    for swarm in (plain, drafted):
        swarm.say(0, tokens(0, 0, 4), A)
    assert texts(plain.settle()) == texts(drafted.settle()) == list(range(4, 60))
    rounds = [sum(target == 0 for _, target, _ in swarm.sent) for swarm in (plain, drafted)]
    assert rounds[1] < rounds[0]


async def test_a_ring_that_stopped_and_one_that_was_a_chain_for_a_while_can_be_led_again():
    """Not every token that is drawn is fed, so not every one is known to the drafter."""
    swarm = chained(ring=True, max_tokens=30, stop_token_ids=(9,), draft_tokens=3, history=(0, 1, 2, 3))
    swarm.say(0, tokens(0, 0, 4), A)
    assert texts(swarm.settle()) == [4, 5, 6, 7, 8, 9]
    for ring, sent in ((False, 9), (True, 10)):
        lead(swarm, 2, position=sent, next_position=sent, num_tokens=sent + 1, ring=ring)
        swarm.say(0, tokens(50 + sent, sent), A)
        assert texts(swarm.settle()) == (list(range(11, 30)) if ring else [10])


async def test_the_client_stops_a_ring_by_closing():
    swarm = chained(ring=True)
    swarm.say(0, tokens(0, 0, 4), A)
    for _ in range(12):
        swarm.step()
    for number in range(3):
        swarm.say(number, Close(), SEATS[number])
    swarm.settle()
    assert all(len(table.desk.seats) == 0 and table.pool.used == 0 for table in swarm.tables)


async def test_a_hop_whose_path_comes_late_lets_the_rows_wait():
    swarm = Swarm(FIRST, MIDDLE, LAST)
    open_all(swarm)
    lead(swarm, 0)
    swarm.say(0, tokens(0, 0, 4), A)
    swarm.say(0, tokens(1, 4), A)
    swarm.settle()
    assert len(swarm.sent) == 2
    lead(swarm, 2)
    assert texts(swarm.settle()) == []
    lead(swarm, 1)
    assert texts(swarm.settle()) == [4, 5]


async def test_every_hop_adds_its_timing_where_the_session_asked_for_them():
    swarm = chained(timing=True)
    swarm.say(0, tokens(0, 0), A)
    (token,) = [entry.body for _, entry in swarm.settle() if isinstance(entry.body, Token)]
    assert token.timings == tuple(Timing(start, 0.5, 0.25) for start in (0, 3, 6))


async def test_that_the_next_hop_is_gone_the_client_hears_once_and_the_seat_waits():
    swarm = chained()
    swarm.say(0, tokens(0, 0, 4), A)
    swarm.settle()
    swarm.lose(1)
    swarm.say(0, tokens(1, 4), A)
    swarm.say(0, tokens(2, 5), A)
    assert troubles(swarm.settle()) == [(0, swarm.tables[1].peer_id, DeadLink)]
    assert len(swarm.tables[0].desk.seats) == 1
    for position in range(6, 9):
        swarm.say(0, tokens(position, position), A)
    assert swarm.settle() == [], "what comes now waits for a path"


async def test_that_the_next_hop_gave_the_seat_up_is_trouble_too():
    swarm = chained()
    swarm.tables[1].say(Close(), B)
    swarm.say(0, tokens(0, 0), A)
    assert troubles(swarm.settle()) == [(0, swarm.tables[1].peer_id, NoSeat)]


async def test_a_step_that_fails_is_told_by_the_hop_where_it_did_and_by_nobody_else():
    swarm = chained()
    swarm.say(0, tokens(0, 0), A)
    swarm.step()
    while swarm.letters:
        swarm.letters.popleft()()
    heard = swarm.tables[1].compute(lambda work: BadNumbers("NaN"))
    assert [(entry.session, type(entry.body)) for entry in heard] == [(B, BadNumbers)]
    assert swarm.settle() == []


async def test_a_neighbour_of_an_old_epoch_disturbs_nobody():
    swarm = chained()
    swarm.say(0, tokens(0, 0), A)
    swarm.say(1, Advance(), B, epoch=1)
    heard = swarm.settle()
    assert troubles(heard) == [], "the client advances the others too"


async def test_word_of_an_old_epoch_that_comes_late_is_no_trouble():
    swarm = chained()
    swarm.tables[1].say(Close(), B)
    swarm.say(0, tokens(0, 0), A)
    while not swarm.sent:
        swarm.step()
    swarm.letters.popleft()()  # it arrives, and the answer is under way
    assert len(swarm.letters) == 1
    for number in (0, 2):
        swarm.say(number, Advance(), SEATS[number], epoch=1)
    open_all(swarm, epoch=1, only=(1,))
    for number in range(3):
        lead(swarm, number, epoch=1, position=int(number == 0))
    assert troubles(swarm.settle()) == []
    assert [seat.position for table in swarm.tables for seat in table.desk.seats] == [1, 1, 1]


async def test_a_lost_hop_is_rebuilt_from_the_rows_of_the_one_before_and_the_text_goes_on():
    swarm = chained(max_tokens=40)
    swarm.say(0, tokens(0, 0, 16, Want.NOTHING), A)
    swarm.say(0, tokens(1, 16, 4), A)
    for step in range(2, 6):
        swarm.settle()
        swarm.say(0, tokens(step, 18 + step), A)
    swarm.settle()
    swarm.lose(1)
    swarm.say(0, tokens(6, 24), A)
    assert len(troubles(swarm.settle())) == 1
    # The client: fence, replace the lost one by a new table at its place, then say how things stand.
    for number in (0, 2):
        (answer,) = swarm.say(number, Advance(), SEATS[number], epoch=1)
        assert isinstance(answer.body, Opened) and answer.body.kept_from <= (0 if number == 0 else 24)
    assert [seat.position for seat in swarm.tables[0].desk.seats] == [25]
    swarm.gone.clear()
    swarm.tables[1].say(Close(), B)
    open_all(swarm, epoch=1, only=(1,))
    swarm.sent.clear()
    lead(swarm, 2, epoch=1, position=24)
    lead(swarm, 1, epoch=1, position=0, next_position=24)
    lead(swarm, 0, epoch=1, position=24, next_position=0, step=6)
    assert texts(swarm.settle()) == []
    swarm.say(0, tokens(7, 24), A, epoch=1)
    assert texts(swarm.settle()) == [25]
    ranges = [(entry.body.position, entry.body.end) for _, target, entry in swarm.sent if target == 1]  # type: ignore[union-attr]
    assert ranges == [(0, 16), (16, 24), (24, 25)]
    assert [(target, entry.body.position) for _, target, entry in swarm.sent if target == 2] == [(2, 24)]  # type: ignore[union-attr]


async def test_a_fenced_hop_writes_to_nobody():
    """A zombie: it computes on, under an epoch that the others have left."""
    swarm = chained(ring=True)
    swarm.say(0, tokens(0, 0, 4), A)
    for number in (0, 2):
        swarm.say(number, Advance(), SEATS[number], epoch=1)
        lead(swarm, number, epoch=1, ring=True)
    heard = swarm.settle()
    assert texts(heard) == [] and troubles(heard) == []
    assert [seat.position for seat in swarm.tables[2].desk.seats] == [0]


async def test_who_cannot_reach_the_first_hop_says_so_and_its_tokens_still_come():
    swarm = chained(ring=True)
    swarm.say(0, tokens(0, 0, 4), A)
    while not any(target == 2 for _, target, _ in swarm.sent):
        swarm.step()
    swarm.lose(0)
    heard = swarm.settle()
    assert texts(heard) == [4]
    assert troubles(heard) == [(2, swarm.tables[0].peer_id, DeadLink)]


async def test_whoever_leaves_is_not_heard_any_more():
    swarm = chained()
    swarm.say(0, tokens(0, 0, 4), A)
    while not any(target == 2 for _, target, _ in swarm.sent):
        swarm.step()
    swarm.say(1, Close(), B)
    swarm.settle()
    assert not swarm.tables[1].desk._post.ears  # type: ignore[attr-defined]


@pytest.mark.parametrize("ahead", [MAX_EARLY, MAX_EARLY + 3])
async def test_more_that_is_early_than_waits_is_trouble_at_the_hop_before(ahead: int):
    swarm = Swarm(FIRST, LAST)
    swarm.say(0, opening(span=FIRST, sampling=None), A)
    swarm.say(1, opening(span=LAST), B)
    lead(swarm, 0)
    for position in range(ahead):
        swarm.say(0, tokens(position, position), A)
    heard = swarm.settle()
    (seat,) = swarm.tables[1].desk.seats
    assert len(seat.early) == MAX_EARLY
    assert troubles(heard) == ([(0, swarm.tables[1].peer_id, Overflow)] if ahead > MAX_EARLY else [])


async def test_a_stranger_with_a_guess_writes_nothing():
    swarm = chained()
    pile = Pile()
    stranger = swarm.tables[1].desk.join(pile)
    chunk = rows_from(tokens(0, 0, 2))
    assert isinstance(chunk, Chunk)
    swarm.tables[1].desk.receive(stranger, Entry(b"?" * 16, 0, chunk))
    assert pile.bodies() == [NoSeat]
