"""What a Chunk may do to a Seat. Paths, epochs and drafts are in test_seat_turns."""

from __future__ import annotations

import dataclasses

import pytest

from peer.seat import MAX_WAITING, Accept, Repeat
from proto.messages import Opened, Token, Want, WireDType
from swarm.errors import BadRequest, OutOfOrder, Overflow
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support.seats import hidden, opening, seat, tokens

LATE = 1e9  # past every lease: only what the engine has keeps a Seat then


def test_the_first_chunk_may_have_any_step_but_starts_at_position_zero():
    assert seat().admit(0, tokens(7, 0, 3)) == Accept(rolled=False)
    late = seat().admit(0, tokens(0, 1))
    assert isinstance(late, OutOfOrder) and str(late) == "chunk starts at 1, seat is at 0"


def test_an_accepted_chunk_moves_the_seat_on():
    one = seat()
    assert isinstance(one.admit(0, tokens(0, 0, 5, Want.NOTHING)), Accept)
    assert (one.position, one.done) == (5, 0)
    assert one.opened() == Opened(5, 60.0, 16, kept_from=5)
    assert not one.expired(LATE)


def test_chunks_may_be_sent_ahead_of_their_answers():
    one = seat()
    first, second = tokens(0, 0, 4, Want.NOTHING), tokens(1, 4, 4)
    for chunk in (first, second):
        assert isinstance(one.admit(0, chunk), Accept)
    one.finish(first, ())
    assert (one.position, one.done) == (8, 4) and not one.expired(LATE)
    one.finish(second, (Token(1, 8, 42),))
    assert (one.position, one.done) == (8, 8) and one.expired(LATE)


def test_a_chunk_may_be_computed_in_parts_and_only_the_last_part_has_its_answer():
    one = seat()
    whole = tokens(0, 0, 8)
    one.admit(0, whole)
    first, second = whole.split(5)
    one.finish(first, ())
    assert one.done == 5
    assert one.admit(0, whole) == Repeat(None)
    one.finish(second, (Token(0, 8, 42),))
    assert one.admit(0, whole) == Repeat((Token(0, 8, 42),))


def test_steps_may_leave_out_numbers_but_only_rise():
    one = seat()
    assert isinstance(one.admit(0, tokens(3, 0)), Accept)
    assert isinstance(one.admit(0, tokens(9, 1)), Accept)
    lower = one.admit(0, tokens(5, 2))
    assert isinstance(lower, OutOfOrder) and str(lower) == "step 5 came after step 9 was taken"


def test_chunks_of_one_step_may_follow_each_other():
    """A Hop before this one has computed a Chunk in parts, or sends rows again."""
    one = seat()
    whole = tokens(3, 0, 6)
    for part in whole.split(2):
        assert isinstance(one.admit(0, part), Accept)
    assert one.position == 6


@pytest.mark.parametrize("position", [0, 3, 5, 31])
def test_a_gap_or_an_overlap_in_positions_is_out_of_order(position: int):
    one = seat()
    one.admit(0, tokens(0, 0, 4))
    assert isinstance(one.admit(0, tokens(1, position)), OutOfOrder)
    assert one.position == 4


def test_an_exact_repeat_gets_the_cached_reply_and_is_not_computed_again():
    one = seat()
    chunk = tokens(0, 0, 4)
    one.admit(0, chunk)
    one.finish(chunk, (Token(0, 4, 42),))
    assert one.admit(0, dataclasses.replace(chunk)) == Repeat((Token(0, 4, 42),))
    assert one.position == 4 and one.expired(LATE)


def test_a_repeat_while_the_chunk_is_computed_has_no_answer_yet():
    one = seat()
    chunk = tokens(0, 0, 4)
    one.admit(0, chunk)
    assert one.admit(0, dataclasses.replace(chunk)) == Repeat(None)
    assert not one.expired(LATE)


@pytest.mark.parametrize("changes", [{"token_ids": (9, 9)}, {"want": Want.NOTHING}, {"count": 1, "token_ids": (5,)}])
def test_other_content_for_the_last_step_is_out_of_order(changes: dict):
    one = seat()
    chunk = tokens(0, 0, 2)
    one.admit(0, chunk)
    verdict = one.admit(0, dataclasses.replace(chunk, **changes))
    assert isinstance(verdict, OutOfOrder) and "other content for step 0" in str(verdict)


def test_only_the_last_step_may_be_repeated():
    one = seat()
    one.admit(0, tokens(0, 0))
    one.admit(0, tokens(1, 1))
    assert isinstance(one.admit(0, tokens(0, 0)), OutOfOrder)


def test_an_answer_to_an_earlier_step_is_not_kept_for_the_last():
    one = seat()
    first, second = tokens(0, 0), tokens(1, 1)
    one.admit(0, first)
    one.admit(0, second)
    one.finish(first, (Token(0, 1, 7),))
    assert one.admit(0, second) == Repeat(None)


def test_the_answer_to_one_step_is_forgotten_when_the_next_is_taken():
    one = seat()
    first, second = tokens(0, 0), tokens(1, 1)
    one.admit(0, first)
    one.finish(first, (Token(0, 1, 7),))
    one.admit(0, second)
    assert one.admit(0, second) == Repeat(None)


def test_a_chunk_may_not_reach_past_what_was_opened():
    one = seat(request=opening(max_tokens=6))
    assert isinstance(one.admit(0, tokens(0, 0, 4)), Accept)
    verdict = one.admit(0, tokens(1, 4, 3))
    assert isinstance(verdict, BadRequest) and str(verdict) == "chunk ends at 7, seat was opened for 6 tokens"
    assert one.position == 4


@pytest.mark.parametrize("count", [0, 17])
def test_a_chunk_has_a_bounded_count(count: int):
    assert isinstance(seat().admit(0, tokens(0, 0, count)), BadRequest)


def test_more_waiting_positions_than_the_bound_overflow_the_seat():
    one = seat(request=opening(max_tokens=16 * MAX_WAITING + 1))
    for step in range(MAX_WAITING):
        assert isinstance(one.admit(0, tokens(step, 16 * step, 16)), Accept)
    over = tokens(MAX_WAITING, 16 * MAX_WAITING)
    assert isinstance(one.admit(0, over), Overflow)
    one.finish(tokens(0, 0, 1), ())
    assert isinstance(one.admit(0, over), Accept)


def test_a_token_is_drawn_only_with_sampling_parameters():
    one = seat(request=opening(sampling=None))
    assert isinstance(one.admit(0, tokens(0, 0, want=Want.TOKEN)), BadRequest)
    assert isinstance(one.admit(0, tokens(0, 0, want=Want.HIDDEN)), Accept)


def test_a_seat_before_the_end_passes_on_that_a_token_is_wanted():
    one = seat(request=opening(span=Span(0, 4), sampling=None))
    assert isinstance(one.admit(0, tokens(0, 0, want=Want.TOKEN)), Accept)


def test_token_ids_go_to_block_zero_and_hidden_states_elsewhere():
    assert isinstance(seat().admit(0, hidden(0, 0)), BadRequest)
    inner = seat(request=opening(span=Span(2, 8)))
    assert isinstance(inner.admit(0, tokens(0, 0)), BadRequest)
    assert isinstance(inner.admit(0, hidden(0, 0, 3)), Accept)


def test_where_the_ends_are_the_clients_hidden_states_go_to_block_zero_too():
    one = seat(request=opening(embedded=True, sampling=None))
    assert isinstance(one.admit(0, tokens(0, 0, want=Want.HIDDEN)), BadRequest)
    assert isinstance(one.admit(0, hidden(0, 0)), Accept)


def test_the_rows_must_be_as_many_as_the_positions():
    inner = seat(request=opening(span=Span(2, 8)))
    assert isinstance(inner.admit(0, dataclasses.replace(hidden(0, 0, 3), count=2)), BadRequest)
    assert isinstance(seat().admit(0, dataclasses.replace(tokens(0, 0, 3), count=2)), BadRequest)


def test_hidden_states_come_in_the_type_that_was_agreed():
    inner = seat(request=opening(span=Span(2, 8), wire=WireDType.BF16))
    assert isinstance(inner.admit(0, hidden(0, 0)), BadRequest)
    assert isinstance(inner.admit(0, hidden(0, 0, dtype=WireDType.BF16)), Accept)


@pytest.mark.parametrize(
    ("request_", "grown"),
    [
        (opening(history=(1, 2)), [1, 2]),
        (opening(sampling=SamplingParams(presence_penalty=1.0), history=(1, 2)), [1, 2, 42]),
        (opening(draft_tokens=4, history=(1, 2)), [1, 2, 42]),
    ],
    ids=["plain", "penalties", "drafts"],
)
def test_history_grows_with_what_is_drawn_only_where_drawing_or_drafting_needs_it(request_, grown: list[int]):
    one = seat(request=request_)
    chunk = tokens(0, 0)
    one.admit(0, chunk)
    one.finish(chunk, (Token(0, 1, 42),))
    one.admit(0, chunk)
    assert one.history == grown


def test_a_lease_runs_out_unless_it_is_renewed_or_the_engine_is_at_work():
    one = seat()
    assert not one.expired(59.9) and one.expired(60.0)
    one.renew(30.0)
    assert not one.expired(60.0) and one.expired(90.0)
    chunk = tokens(0, 0)
    one.admit(0, chunk)
    assert not one.expired(1000.0)
    one.finish(chunk, ())
    assert one.expired(1000.0)


def test_drafts_of_which_nothing_is_wanted_are_refused():
    """A scheduler that splits prefill cannot split those."""
    refused = seat().admit(0, dataclasses.replace(tokens(0, 0, 5, Want.NOTHING), drafts=(1, 2, 3, 4)))
    assert isinstance(refused, BadRequest) and "4 drafts" in str(refused)
