"""What the last Hop of a ring tells the first."""

from __future__ import annotations

from typing import Any

import pytest

from peer.onward import Onward, feed_on
from peer.seat import Seat
from proto.messages import Chunk, Done, Entry, Token, Want
from swarm.errors import DeadLink, Fault
from tests.support.seats import neighbour, opening, seat, tokens


def drawn(*ids: int, position: int = 4, step: int = 3) -> list[Token]:
    return [Token(step, position + index, token_id) for index, token_id in enumerate(ids)]


def last_hop(**changes: Any) -> Seat:
    return seat(request=opening(**changes))


def after(one: Seat, *ids: int, drafts: int = 0) -> Chunk | None:
    """What follows a step of which ``ids`` were drawn from position 4 on."""
    return feed_on(one, tokens(3, 3, 1 + drafts, drafts=drafts), drawn(*ids), 0.0)


def test_the_first_hop_gets_the_token_as_the_next_step_at_its_position():
    assert after(last_hop(), 42) == Chunk(4, 4, 1, Want.TOKEN, token_ids=(42,))


def test_of_several_tokens_only_the_last_is_news():
    """The others were guessed right: the Hops have them."""
    assert after(last_hop(), 40, 41, 42, drafts=2) == Chunk(4, 6, 1, Want.TOKEN, token_ids=(42,))


@pytest.mark.parametrize("ids", [(7,), (40, 7), (7, 40)])
def test_after_a_stop_id_the_ring_does_not_go_on_by_itself(ids: tuple[int, ...]):
    assert after(last_hop(stop_token_ids=(7, 8)), *ids) is None


@pytest.mark.parametrize(("max_tokens", "goes_on"), [(4, False), (5, False), (6, True)])
def test_the_ring_ends_where_no_more_may_be_drawn(max_tokens: int, goes_on: bool):
    """The token at position 4 is the fifth; what is fed must leave room for the one that it draws."""
    assert (after(last_hop(max_tokens=max_tokens, prompt_tokens=4), 42) is not None) == goes_on


REPEATING = (1, 2, 3, 4) * 5


def drafting(**changes: Any) -> Seat:
    """Its drafts are worth it: it has been right for a while."""
    one = last_hop(**{"history": REPEATING, "draft_tokens": 4, "max_tokens": 64, **changes})
    step, position = 0, len(REPEATING)
    for _ in range(60):
        token = drawn(REPEATING[position % 4], position=position % 40)
        following = feed_on(one, tokens(step, position - 1), token, float(step))
        assert following is not None and one.drafter is not None
        one.drafter.accepted(len(following.drafts), len(following.drafts))
        step, position = step + 1, position + 1
    return one


def test_drafts_follow_the_token_where_the_session_wants_them():
    following = feed_on(drafting(), tokens(3, 3), drawn(1), 0.0)
    assert following is not None and following.token_ids is not None
    assert 0 < len(following.drafts) <= 4
    assert following.token_ids == (1, *following.drafts)
    assert (following.count, following.position) == (1 + len(following.drafts), 4)
    assert following.drafts == (2, 3, 4, 1)[: len(following.drafts)]


@pytest.mark.parametrize("room", [1, 2, 3])
def test_no_draft_is_made_past_the_last_token_that_may_be_drawn(room: int):
    """A step with k drafts can draw k + 1 tokens."""
    one = drafting()
    position = one.request.max_tokens - 1 - room
    following = feed_on(one, tokens(3, position - 1), drawn(1, position=position), 0.0)
    assert following is not None and len(following.drafts) <= room - 1
    assert following.end <= one.request.max_tokens - 1


def test_the_drafter_begins_with_the_history_and_is_given_each_token_once():
    """The Seat's history has the first tokens by the time the drafter is made."""
    one = last_hop(history=(1, 2, 3, 9, 1), draft_tokens=4, max_tokens=64)
    for step, token_id in enumerate((2, 3, 9, 1, 2, 3, 9, 1)):
        chunk = tokens(step, step)
        one.admit(0, chunk)
        one.finish(chunk, (Token(step, step + 1, token_id),))
        feed_on(one, chunk, drawn(token_id, position=5 + step), 0.0)
    assert one.drafter is not None
    assert one.drafter._source.propose(3) == (2, 3, 9)
    one.drafter.rollback(len(one.history))
    with pytest.raises(AssertionError):
        one.drafter.rollback(len(one.history) + 1)


def test_failed_drafts_are_told_to_the_drafter():
    one = drafting()
    assert one.drafter is not None
    for _ in range(20):
        feed_on(one, tokens(3, 3, 4, drafts=3), drawn(1), 0.0)
    assert one.drafter.propose() == ()


def test_a_step_that_was_fed_from_here_tells_what_rows_cost_and_another_does_not():
    one = drafting()
    assert one.drafter is not None
    pace, cost = one.drafter.pace, one.drafter.pace.cost
    feed_on(one, tokens(one.fed_step + 1, 3, 4, drafts=3), drawn(1), one.fed_at + 100.0)
    assert pace.cost == cost
    feed_on(one, tokens(one.fed_step, 3, 4, drafts=3), drawn(1), one.fed_at + 2.0)
    assert pace.cost != cost


class Notes:
    """What a desk would hear."""

    def __init__(self):
        self.heard: list[tuple[Seat, Onward, Entry | Fault]] = []

    def answered(self, seat: Seat, onward: Onward, entry: Entry) -> None:
        self.heard.append((seat, onward, entry))

    def broke(self, seat: Seat, onward: Onward, fault: Fault) -> None:
        self.heard.append((seat, onward, fault))


def test_an_onward_says_whose_seat_it_hears_for():
    notes, one = Notes(), seat()
    onward = Onward(notes, one, neighbour())
    entry, fault = Entry(b"n" * 16, 0, Done(0, 4)), DeadLink("gone")
    onward.hear(entry)
    onward.fail(fault)
    assert notes.heard == [(one, onward, entry), (one, onward, fault)]
