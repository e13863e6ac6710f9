from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.seat import MAX_WAITING, Accept, Repeat
from proto.messages import Chunk, Done, Token, Want, WireDType
from swarm.errors import BadRequest, Fault, OutOfOrder, Overflow, StaleEpoch
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support.seats import hidden, opening, seat, tokens

LATE = 1e9  # past every lease: only what the engine has keeps a Seat then


def test_the_first_chunk_may_have_any_step_but_starts_at_position_zero():
    assert isinstance(seat().admit(0, tokens(7, 0, 3)), Accept)
    late = seat().admit(0, tokens(0, 1))
    assert isinstance(late, OutOfOrder) and str(late) == "chunk starts at 1, seat is at 0"


def test_an_accepted_chunk_moves_the_seat_on():
    one = seat()
    assert isinstance(one.admit(0, tokens(0, 0, 5, Want.NOTHING)), Accept)
    assert (one.position, one.opened().position) == (5, 5)
    assert not one.expired(LATE)


def test_chunks_may_be_sent_ahead_of_their_answers():
    one = seat()
    first, second = tokens(0, 0, 4, Want.NOTHING), tokens(1, 4, 4)
    assert isinstance(one.admit(0, first), Accept)
    assert isinstance(one.admit(0, second), Accept)
    assert one.finish(first, Done(0)) == one.entry(Done(0))
    assert one.finish(second, Token(1, 8, 42)) == one.entry(Token(1, 8, 42))
    assert one.expired(LATE)


def test_steps_may_leave_out_numbers_but_only_rise():
    one = seat()
    assert isinstance(one.admit(0, tokens(3, 0)), Accept)
    assert isinstance(one.admit(0, tokens(9, 1)), Accept)
    lower = one.admit(0, tokens(5, 2))
    assert isinstance(lower, OutOfOrder) and str(lower) == "step 5 came after step 9 was taken"


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
    one.finish(chunk, Token(0, 4, 42))
    assert one.admit(0, dataclasses.replace(chunk)) == Repeat(Token(0, 4, 42))
    assert one.position == 4 and one.expired(LATE)


def test_a_repeat_while_the_chunk_is_computed_is_answered_once():
    one = seat()
    chunk = tokens(0, 0, 4)
    one.admit(0, chunk)
    assert one.admit(0, dataclasses.replace(chunk)) == Repeat(None)
    assert not one.expired(LATE)
    assert one.finish(chunk, Token(0, 4, 42)) is not None
    assert one.expired(LATE)


@pytest.mark.parametrize(
    "changes", [{"token_ids": (9, 9)}, {"want": Want.NOTHING}, {"position": 2}, {"count": 1, "token_ids": (5,)}]
)
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


def test_a_lower_epoch_is_stale_and_changes_nothing():
    one = seat(epoch=2)
    verdict = one.admit(1, tokens(0, 0))
    assert isinstance(verdict, StaleEpoch) and str(verdict) == "message of epoch 1, seat is at epoch 2"
    assert (one.position, one.epoch) == (0, 2)
    with pytest.raises(StaleEpoch):
        one.advance(1)


def test_a_higher_epoch_fences_the_lower_one_off():
    one = seat()
    assert isinstance(one.admit(3, tokens(0, 0)), Accept)
    assert one.epoch == 3
    assert isinstance(one.admit(2, tokens(1, 1)), StaleEpoch)


def test_a_refused_chunk_does_not_raise_the_epoch():
    one = seat()
    assert isinstance(one.admit(3, tokens(0, 1)), OutOfOrder)
    assert one.epoch == 0


def test_after_advance_a_running_step_is_answered_only_to_who_asks_again():
    one = seat()
    chunk = tokens(0, 0)
    one.admit(0, chunk)
    one.advance(1)
    assert one.finish(chunk, Token(0, 1, 42)) is None, "nobody of epoch 1 has asked for it"
    assert one.admit(1, chunk) == Repeat(Token(0, 1, 42))


def test_a_step_repeated_under_a_new_epoch_while_computed_is_answered_in_that_epoch():
    one = seat()
    chunk = tokens(0, 0)
    one.admit(0, chunk)
    one.advance(1)
    assert one.admit(1, chunk) == Repeat(None)
    entry = one.finish(chunk, Token(0, 1, 42))
    assert entry is not None and entry.epoch == 1


def test_an_answer_to_an_earlier_step_is_not_kept_for_the_last():
    one = seat()
    first, second = tokens(0, 0), tokens(1, 1)
    one.admit(0, first)
    one.admit(0, second)
    one.finish(first, Token(0, 1, 7))
    assert one.admit(0, second) == Repeat(None)


def test_the_answer_to_one_step_is_forgotten_when_the_next_is_taken():
    one = seat()
    first, second = tokens(0, 0), tokens(1, 1)
    one.admit(0, first)
    one.finish(first, Token(0, 1, 7))
    one.admit(0, second)
    assert one.admit(0, second) == Repeat(None)


def test_a_chunk_may_not_reach_past_what_was_opened():
    one = seat(request=opening(max_tokens=6))
    assert isinstance(one.admit(0, tokens(0, 0, 4)), Accept)
    verdict = one.admit(0, tokens(1, 4, 3))
    assert isinstance(verdict, BadRequest) and str(verdict) == "chunk ends at 7, seat was opened for 6 tokens"


@pytest.mark.parametrize("count", [0, 17])
def test_a_chunk_has_a_bounded_count(count: int):
    assert isinstance(seat().admit(0, tokens(0, 0, count)), BadRequest)


def test_more_waiting_chunks_than_the_bound_overflow_the_seat():
    one = seat(request=opening(max_tokens=128))
    for step in range(MAX_WAITING):
        assert isinstance(one.admit(0, tokens(step, step)), Accept)
    assert isinstance(one.admit(0, tokens(MAX_WAITING, MAX_WAITING)), Overflow)


def test_a_token_is_drawn_only_with_sampling_parameters():
    one = seat(request=opening(sampling=None))
    assert isinstance(one.admit(0, tokens(0, 0, want=Want.TOKEN)), BadRequest)
    assert isinstance(one.admit(0, tokens(0, 0, want=Want.HIDDEN)), Accept)


def test_token_ids_go_to_block_zero_and_hidden_states_elsewhere():
    assert isinstance(seat().admit(0, hidden(0, 0)), BadRequest)
    inner = seat(request=opening(span=Span(2, 8)))
    assert isinstance(inner.admit(0, tokens(0, 0)), BadRequest)
    assert isinstance(inner.admit(0, hidden(0, 0, 3)), Accept)


def test_the_rows_must_be_as_many_as_the_positions():
    inner = seat(request=opening(span=Span(2, 8)))
    assert isinstance(inner.admit(0, dataclasses.replace(hidden(0, 0, 3), count=2)), BadRequest)
    assert isinstance(seat().admit(0, dataclasses.replace(tokens(0, 0, 3), count=2)), BadRequest)


def test_hidden_states_come_in_the_type_that_was_agreed():
    inner = seat(request=opening(span=Span(2, 8), wire=WireDType.BF16))
    assert isinstance(inner.admit(0, hidden(0, 0)), BadRequest)
    assert isinstance(inner.admit(0, hidden(0, 0, dtype=WireDType.BF16)), Accept)


def test_history_grows_with_what_is_sampled_only_where_sampling_needs_it():
    plain, penal = seat(), seat(request=opening(sampling=SamplingParams(presence_penalty=1.0), history=(1, 2)))
    for one in (plain, penal):
        chunk = tokens(0, 0)
        one.admit(0, chunk)
        one.finish(chunk, Token(0, 1, 42))
        one.admit(0, chunk)
    assert plain.history == []
    assert penal.history == [1, 2, 42]


def test_a_lease_runs_out_unless_it_is_renewed_or_the_engine_is_at_work():
    one = seat()
    assert not one.expired(59.9) and one.expired(60.0)
    one.renew(30.0)
    assert not one.expired(60.0) and one.expired(90.0)
    chunk = tokens(0, 0)
    one.admit(0, chunk)
    assert not one.expired(1000.0)
    one.finish(chunk, Done(0))
    assert one.expired(1000.0)


chunks = st.builds(
    tokens,
    st.integers(0, 5),
    st.integers(0, 12),
    st.integers(1, 5),
    st.sampled_from([Want.NOTHING, Want.TOKEN]),
    st.integers(0, 2),
)


@given(st.lists(st.tuples(st.integers(0, 3), chunks, st.booleans()), max_size=40))
def test_whatever_comes_positions_are_taken_once_and_in_order(messages: list[tuple[int, Chunk, bool]]):
    one, taken, computing, epochs = seat(), [], [], [0]
    for epoch, chunk, finish in messages:
        verdict = one.admit(epoch, chunk)
        if isinstance(verdict, Accept):
            taken.append(chunk)
            computing.append(chunk)
        elif isinstance(verdict, Repeat):
            assert chunk == taken[-1]
        else:
            assert isinstance(verdict, Fault)
        epochs.append(one.epoch)
        if finish and computing:
            done = computing.pop(0)
            entry = one.finish(done, Done(done.step))
            assert entry is None or entry.epoch == one.epoch
    positions = [p for chunk in taken for p in range(chunk.position, chunk.position + chunk.count)]
    assert positions == list(range(one.position))
    steps = [chunk.step for chunk in taken]
    assert steps == sorted(set(steps))
    assert epochs == sorted(epochs)
