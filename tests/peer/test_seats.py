from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from peer.pages import PagePool
from peer.scheduler import Work
from peer.seat import Accept
from peer.seats import Seats
from proto.messages import Fork, Opened
from swarm.clock import VirtualClock
from swarm.errors import BadRequest, Draining, Fault, NoSeat, OutOfOrder, Refused, StaleEpoch, UsageError, WrongModel
from swarm.sampling import Grammar, GrammarKind, SamplingParams
from swarm.span import Span
from tests.support.seats import opening, terms, tokens

A, B = b"a" * 16, b"b" * 16


def book(pages: int = 32, **changes: Any) -> tuple[Seats, VirtualClock]:
    clock = VirtualClock()
    return Seats(terms(**changes), PagePool(pages), clock), clock


def test_open_reserves_pages_for_prompt_and_answer():
    seats, _ = book()
    assert seats.open(A, 0, "link", opening(max_tokens=9)) == Opened(0, 60.0, 16)
    assert (len(seats), seats.kv_tokens, seats.kv_tokens_free) == (1, 128, 128 - 12)


def test_close_frees_the_pages_and_a_second_close_is_nothing():
    seats, _ = book()
    seats.open(A, 0, "link", opening())
    seat = seats.find(A, "link")
    seats.close(seat)
    seats.close(seat)
    assert (len(seats), seats.kv_tokens_free) == (0, 128)
    with pytest.raises(NoSeat):
        seats.find(A, "link")


@pytest.mark.parametrize(
    ("changes", "fault", "words"),
    [
        ({"fingerprint": "f" * 32}, WrongModel, "this peer serves"),
        ({"profile": "f32"}, WrongModel, "profile 'f32' wanted, this peer serves 'c8'"),
        ({"span": Span(0, 9)}, WrongModel, "blocks 0:9 wanted, this peer serves 0:8"),
        ({"span": Span(0, 7), "sampling": SamplingParams()}, BadRequest, "the model ends at 8"),
        ({"max_tokens": 129}, Refused, "the model has 128 positions"),
        ({"max_tokens": 0, "prompt_tokens": 0}, Refused, "0 tokens wanted"),
        ({"prompt_tokens": 33}, BadRequest, "33 prompt"),
        ({"history": (1,) * 33}, BadRequest, "33 history"),
    ],
)
def test_what_this_peer_cannot_do_is_refused_at_open_with_both_sides(changes: dict, fault: type[Fault], words: str):
    seats, _ = book()
    with pytest.raises(fault, match=words):
        seats.open(A, 0, "link", opening(**changes))
    assert (len(seats), seats.kv_tokens_free) == (0, 128)


def test_a_sub_span_is_welcome():
    seats, _ = book()
    seats.open(A, 0, "link", opening(span=Span(2, 5), sampling=None))
    assert seats.find(A, "link").request.span == Span(2, 5)


def test_refused_says_whether_waiting_helps():
    seats, _ = book(pages=8, max_positions=256)
    with pytest.raises(Refused) as never:
        seats.open(A, 0, "link", opening(max_tokens=33))
    seats.open(A, 0, "link", opening(max_tokens=32))
    with pytest.raises(Refused) as later:
        seats.open(B, 0, "link", opening(max_tokens=1, prompt_tokens=1))
    assert never.value.retry_after_s is None
    assert later.value.retry_after_s is not None


def test_the_number_of_sessions_is_bounded():
    seats, _ = book(max_sessions=1)
    seats.open(A, 0, "link", opening(max_tokens=8))
    with pytest.raises(Refused, match="all 1 seats are taken") as refused:
        seats.open(B, 0, "link", opening(max_tokens=8))
    assert refused.value.retry_after_s is not None


def test_a_draining_peer_keeps_its_seats_and_takes_no_new_one():
    seats, _ = book()
    seats.open(A, 0, "link", opening())
    seats.draining = True
    with pytest.raises(Draining):
        seats.open(B, 0, "link", opening())
    assert seats.find(A, "link")


def test_a_stranger_can_neither_use_nor_replace_nor_close_a_seat():
    seats, _ = book()
    seats.open(A, 0, "mine", opening())
    with pytest.raises(Refused, match="in use on another link"):
        seats.open(A, 5, "stranger", opening())
    with pytest.raises(NoSeat):
        seats.find(A, "stranger")
    assert seats.close_link("stranger") == ()
    assert seats.find(A, "mine").epoch == 0


def test_the_same_link_replaces_its_seat_with_a_higher_epoch():
    seats, _ = book()
    seats.open(A, 0, "link", opening(max_tokens=8))
    old = seats.find(A, "link")
    seats.open(A, 1, "link", opening(max_tokens=16))
    new = seats.find(A, "link")
    assert new is not old and not seats.holds(old)
    assert (new.epoch, seats.kv_tokens_free) == (1, 128 - 16)
    with pytest.raises(StaleEpoch):
        seats.open(A, 0, "link", opening())


def test_a_seat_can_be_replaced_when_the_pool_has_room_only_for_one():
    seats, _ = book(pages=8, max_sessions=1)
    seats.open(A, 0, "link", opening(max_tokens=32))
    assert seats.open(A, 1, "link", opening(max_tokens=32)).position == 0


def test_the_same_open_again_is_answered_again_and_another_one_is_out_of_order():
    seats, _ = book()
    seats.open(A, 0, "link", opening())
    seats.find(A, "link").admit(0, tokens(0, 0, 4))
    assert seats.open(A, 0, "link", opening()).position == 4
    with pytest.raises(OutOfOrder):
        seats.open(A, 0, "link", opening(max_tokens=8))
    assert len(seats) == 1


def test_a_lost_link_frees_its_seats_and_no_others():
    seats, _ = book()
    seats.open(A, 0, "gone", opening())
    seats.open(B, 0, "alive", opening())
    assert [seat.session for seat in seats.close_link("gone")] == [A]
    assert [seat.session for seat in seats] == [B]


def test_leases_run_out_and_steps_renew_them():
    seats, clock = book()
    seats.open(A, 0, "link", opening())
    seats.open(B, 0, "link", opening())
    clock.advance(40)
    seats.find(B, "link")
    clock.advance(40)
    assert [seat.session for seat in seats.close_expired()] == [A]
    assert [seat.session for seat in seats] == [B]
    clock.advance(60)
    seats.close_expired()
    assert seats.kv_tokens_free == 128


def test_whoever_knows_the_id_may_send_a_chunk_but_not_command():
    """The Hop before this one sends them over a Link of its own."""
    seats, clock = book()
    seats.open(A, 0, "client", opening())
    clock.advance(59)
    seat = seats.receiver(A)
    assert seat is seats.find(A, "client") and seat.link == "client"
    clock.advance(59)
    assert seats.close_expired() == (), "a Chunk renews the lease"
    with pytest.raises(NoSeat):
        seats.find(A, "hop")
    with pytest.raises(NoSeat):
        seats.receiver(B)


def test_a_stranger_who_asks_for_a_seat_renews_no_lease_of_it():
    seats, clock = book()
    seats.open(A, 0, "mine", opening())
    clock.advance(59)
    with pytest.raises(NoSeat):
        seats.find(A, "stranger")
    clock.advance(1)
    assert len(seats.close_expired()) == 1


def test_a_seat_knows_whose_it_is_and_whether_the_model_ends_there():
    seats, _ = book()
    seats.open(A, 0, "link", opening(), "somebody")
    seats.open(B, 0, "link", opening(span=Span(2, 5), sampling=None))
    assert (seats.find(A, "link").client, seats.find(A, "link").at_end) == ("somebody", True)
    assert (seats.find(B, "link").client, seats.find(B, "link").at_end) == ("", False)


def test_terms_must_be_positive():
    with pytest.raises(UsageError):
        terms(max_sessions=0)


class SeatsAndPool(RuleBasedStateMachine):
    """Whatever strangers, clients and time do to the book, it never leaks a Page nor lends one twice."""

    opened = Bundle("sessions")

    def __init__(self):
        super().__init__()
        self.pool = PagePool(12)
        self.clock = VirtualClock()
        self.seats = Seats(terms(max_sessions=5), self.pool, self.clock)
        self.computing: list[tuple[Any, Any]] = []

    @rule(
        target=opened,
        name=st.integers(0, 6),
        link=st.integers(0, 2),
        epoch=st.integers(0, 3),
        max_tokens=st.integers(0, 60),
    )
    def open(self, name: int, link: int, epoch: int, max_tokens: int):
        session = bytes([name]) * 16
        try:
            self.seats.open(session, epoch, link, opening(max_tokens=max_tokens, prompt_tokens=0))
        except Fault:
            pass
        return session

    @rule(
        session=opened,
        link=st.integers(0, 2),
        step=st.integers(0, 9),
        position=st.integers(0, 9),
        count=st.integers(1, 4),
    )
    def chunk(self, session: bytes, link: int, step: int, position: int, count: int):
        try:
            seat = self.seats.find(session, link)
        except NoSeat:
            return
        chunk = tokens(step, position, count)
        if isinstance(seat.admit(seat.epoch, chunk), Accept):
            self.computing.append((seat, chunk))

    @rule(fails=st.booleans())
    def computed(self, fails: bool):
        if self.computing:
            seat, chunk = self.computing.pop(0)
            if not self.seats.holds(seat):
                return
            self.seats.house([Work(seat, chunk)], lambda _: False)
            if fails:
                self.seats.close(seat)
            else:
                seat.finish(chunk, ())

    @rule(link=st.integers(0, 2))
    def lose_link(self, link: int):
        self.seats.close_link(link)
        assert all(seat.link != link for seat in self.seats)

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def wait(self, seconds: float):
        self.clock.advance(seconds)
        self.seats.close_expired()
        assert not any(seat.expired(self.clock.monotonic()) for seat in self.seats)

    @invariant()
    def every_taken_page_has_exactly_one_owner(self):
        owned = [page for seat in self.seats for page in seat.pages]
        assert len(set(owned)) == len(owned) == self.pool.used

    @invariant()
    def every_seat_has_or_is_owed_what_it_may_need_and_the_pool_owes_no_more(self):
        for seat in self.seats:
            assert (len(seat.pages) + seat.owed) * 4 >= seat.request.max_tokens >= seat.position
            assert len(seat.pages) * 4 >= seat.done
        assert sum(seat.owed for seat in self.seats) == self.pool.owed

    def teardown(self):
        for link in range(3):
            self.seats.close_link(link)
        assert (len(self.seats), self.pool.used) == (0, 0)


TestSeatsAndPool = SeatsAndPool.TestCase
TestSeatsAndPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_fork_keeps_what_is_too_long_to_be_sent_again():
    long = SamplingParams(logit_bias=((1, 2.0),), end_token_ids=(3,), grammar=Grammar(GrammarKind.LARK, "x"), seed=1)
    seats, _ = book()
    seats.open(A, 0, "link", opening(sampling=long))
    assert seats.grammar_of(A) == long.grammar and seats.grammar_of(B) is None
    parent = seats.find(A, "link")
    seats.fork(parent, Fork(B, 0, 0, SamplingParams(seed=2, min_tokens=4)))
    assert seats.find(B, "link").request.sampling == replace(long, seed=2, min_tokens=4)
