"""Epochs, Paths and drafts: how a Seat goes back, and what it then still knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.seat import Accept, Repeat, Seat
from proto.messages import Chunk, Path, Token, Want
from swarm.draft import Drafter
from swarm.errors import BadRequest, Fault, OutOfOrder, StaleEpoch
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support.seats import hidden, neighbour, opening, seat, tokens

INNER = opening(span=Span(2, 6), sampling=None)
WRITING = opening(sampling=SamplingParams(presence_penalty=1.0), history=(1, 2, 3))


def begun(count: int = 4, *, request=None) -> Seat:
    """A Seat that has computed so many positions one by one, and given what came out on."""
    one = seat(request=request or INNER)
    one.take_path(0, Path(0, neighbour(), 0))
    for position in range(count):
        chunk = hidden(position, position)
        one.admit(0, chunk)
        one.finish(chunk, chunk)
        one.outflow.give(chunk)
    return one


def test_a_lower_epoch_is_stale_and_changes_nothing():
    one = seat(epoch=2)
    verdict = one.admit(1, tokens(0, 0))
    assert isinstance(verdict, StaleEpoch) and str(verdict) == "message of epoch 1, seat is at epoch 2"
    with pytest.raises(StaleEpoch):
        one.advance(1)
    with pytest.raises(StaleEpoch):
        one.take_path(1, Path(0, None, 0))
    assert (one.position, one.epoch) == (0, 2)


def test_only_advance_raises_the_epoch():
    """A Hop that was not told yet must not be taken over by one that was: first all are fenced, then things move."""
    one = seat()
    verdict = one.admit(1, tokens(0, 0))
    assert isinstance(verdict, OutOfOrder) and "advance it first" in str(verdict)
    with pytest.raises(OutOfOrder, match="path of epoch 1, seat is at epoch 0"):
        one.take_path(1, Path(0, None, 0))
    assert one.epoch == 0
    one.advance(1)
    assert isinstance(one.admit(1, tokens(0, 0)), Accept)
    assert isinstance(one.admit(0, tokens(1, 1)), StaleEpoch)


def test_advance_rolls_back_what_is_not_computed_and_stops_what_would_leave():
    one = begun(3)
    one.admit(0, hidden(3, 3, 4))
    one.early.append(("link", 0, hidden(9, 9)))
    one.advance(1)
    assert (one.position, one.done, one.epoch) == (3, 3, 1)
    assert one.opened().kept_from == 0, "what was given is still there"
    assert one.outflow.take() == [] and not one.outflow.moving and one.early == []
    assert isinstance(one.admit(1, hidden(3, 3)), Accept), "also under a step that was taken before"


def test_after_advance_nothing_is_repeated_from_memory():
    """The Hops behind may have lost it; what crosses the boundary again is the Outflow's affair."""
    one = seat()
    chunk = tokens(0, 0)
    one.admit(0, chunk)
    one.finish(chunk, (Token(0, 1, 42),))
    one.advance(1)
    assert isinstance(one.admit(1, chunk), OutOfOrder)
    assert isinstance(one.admit(1, tokens(0, 1)), Accept)


def test_the_same_epoch_may_be_advanced_to_again():
    one = seat()
    one.advance(3)
    one.advance(3)
    assert one.epoch == 3


def test_a_path_rolls_the_seat_back_to_its_position_and_says_whether_it_did():
    one = begun(4)
    one.advance(1)
    assert one.take_path(1, Path(2, neighbour(), 0)) is True
    assert (one.position, one.done, one.opened().kept_from) == (2, 2, 0)
    assert [chunk.position for chunk in one.outflow.take()] == [0]
    assert one.take_path(1, Path(9, neighbour(), 0)) is False, "a path leads nowhere that the seat has not been"
    assert one.position == 2


def test_what_the_next_seat_lacks_is_sent_again_in_chunks_that_it_takes():
    one = begun(6)
    one.outflow.take()
    one.advance(1)
    one.take_path(1, Path(6, neighbour(max_chunk_tokens=2), 1, step=8))
    sent = one.outflow.take()
    assert [(chunk.step, chunk.position, chunk.end) for chunk in sent] == [(8, 1, 3), (8, 3, 5), (8, 5, 6)]


def test_outputs_for_the_client_come_in_chunks_of_our_own_size_and_are_not_kept():
    one = seat(request=INNER)
    one.take_path(0, Path(0, None, 0))
    one.outflow.give(hidden(0, 0, 16))
    assert len(one.outflow.take()) == 1
    assert one.outflow.kept_from(16) == 16


def test_a_path_cannot_lead_on_from_the_end_nor_feed_without_sampling():
    with pytest.raises(BadRequest, match="leads on from the last block"):
        seat().take_path(0, Path(0, neighbour(), 0))
    with pytest.raises(BadRequest, match="no tokens to feed"):
        seat(request=INNER).take_path(0, Path(0, None, 0, feed=neighbour()))
    assert seat().take_path(0, Path(0, None, 0, feed=neighbour())) is False


def test_a_path_takes_drawn_tokens_back_but_never_what_came_with_the_open():
    one = seat(request=WRITING)
    chunk = tokens(0, 0, 3)
    one.admit(0, chunk)
    one.finish(chunk, (Token(0, 3, 40), Token(0, 4, 41)))
    assert one.history == [1, 2, 3, 40, 41]
    one.drafter = Drafter(one.history, 4)
    one.take_path(0, Path(3, None, 3, num_tokens=4))
    assert one.history == [1, 2, 3, 40]
    one.take_path(0, Path(0, None, 0, num_tokens=0))
    assert one.history == [1, 2, 3]
    assert one.drafter is None, "the next one is made of what is left"


def test_the_next_chunk_may_begin_at_any_draft_and_rolls_back_what_lies_behind():
    for begin in (2, 3, 4, 5):
        one = seat()
        drafted = tokens(0, 0, 5, drafts=3)
        one.admit(0, drafted)
        assert (one.position, one.provisional) == (5, 2)
        one.finish(drafted, ())
        verdict = one.admit(0, tokens(1, begin))
        assert verdict == Accept(rolled=begin < 5)
        assert (one.position, one.provisional) == (begin + 1, begin + 1)


@pytest.mark.parametrize("begin", [0, 1, 6])
def test_what_is_no_draft_is_not_begun_again(begin: int):
    one = seat()
    one.admit(0, tokens(0, 0, 5, drafts=3))
    verdict = one.admit(0, tokens(1, begin))
    assert isinstance(verdict, OutOfOrder) and str(verdict) == f"chunk starts at {begin}, seat is at 5"
    assert (one.position, one.provisional) == (5, 2)


def test_a_refused_chunk_rolls_nothing_back():
    one, drafted = seat(), tokens(0, 0, 5, drafts=3)
    one.admit(0, drafted)
    one.finish(drafted, ())
    assert isinstance(one.admit(0, tokens(1, 2, 17)), BadRequest)
    assert (one.position, one.provisional) == (5, 2)


def test_drafts_that_were_confirmed_are_drafts_no_more():
    one = seat()
    for chunk in (tokens(0, 0, 5, drafts=3), tokens(1, 4, 3, drafts=1)):
        one.admit(0, chunk)
        one.finish(chunk, ())
    assert isinstance(one.admit(0, tokens(2, 4)), OutOfOrder)
    assert one.admit(0, tokens(2, 6)) == Accept(rolled=True)


def test_a_rollback_takes_back_what_was_given_too():
    one = seat(request=INNER)
    one.take_path(0, Path(0, neighbour(), 0))
    chunk = Chunk(0, 0, 4, Want.TOKEN, hidden=hidden(0, 0, 4).hidden, drafts=(1, 2))
    one.admit(0, chunk)
    one.finish(chunk, chunk)
    one.outflow.give(chunk)
    one.admit(0, hidden(1, 2))
    assert (one.done, one.outflow.end) == (2, 2)


def test_nothing_is_rolled_back_over_what_is_not_computed():
    """The engine forgets all that it has of a Seat that rolls back; a gap would be read as others have left it."""
    one = seat()
    one.admit(0, tokens(0, 0, 4, Want.NOTHING))
    one.admit(0, tokens(1, 4, 4, drafts=2))
    verdict = one.admit(0, tokens(2, 6))
    assert isinstance(verdict, OutOfOrder) and "computed up to 0" in str(verdict)
    one.finish(tokens(0, 0, 4, Want.NOTHING), ())
    one.finish(tokens(1, 4, 4), ())
    assert one.admit(0, tokens(2, 6)) == Accept(rolled=True)
    other = seat()
    other.admit(0, tokens(0, 0, 4, Want.NOTHING))
    assert other.take_path(0, Path(2, None, 0)) is True
    assert (other.position, other.done) == (0, 0)


advances = st.tuples(st.just("advance"), st.integers(-1, 1))
finishes = st.just(("finish",))
chunks = st.tuples(
    st.just("chunk"), st.integers(-1, 1), st.integers(0, 4), st.integers(1, 5), st.integers(0, 3), st.integers(0, 1)
)


@given(st.lists(chunks | finishes | advances, max_size=40))
def test_whatever_comes_positions_are_computed_once_and_in_order(script: list[tuple]):
    """``taken`` is what has been computed or will be; ``computing`` is what the engine still has of it."""
    one, taken, computing = seat(request=opening(max_tokens=64)), list[Chunk](), list[Chunk]()
    provisional = step = 0
    for kind, *how in script:
        epoch = one.epoch
        if kind == "advance":
            try:
                one.advance(max(0, epoch + how[0]))
            except StaleEpoch:
                assert how[0] < 0 < epoch
            else:
                computing.clear()
                taken = [known for known in taken if known.end <= one.done]
                provisional = one.done
        elif kind == "finish" and computing:
            one.finish(computing.pop(0), ())
        elif kind == "chunk":
            later, back, size, drafts, content = how
            step, end = max(0, step + later), one.position
            chunk = tokens(step, max(0, end - back), size, Want.TOKEN, content, drafts=min(drafts, size - 1))
            verdict = one.admit(epoch, chunk)
            if isinstance(verdict, Accept):
                assert provisional <= chunk.position <= end
                assert verdict.rolled == (chunk.position < end)
                if verdict.rolled:
                    computing.clear()
                    taken = [k if k.end <= chunk.position else k.head(chunk.position - k.position) for k in taken]
                taken.append(chunk)
                computing.append(chunk)
                provisional = chunk.end - len(chunk.drafts)
            elif isinstance(verdict, Repeat):
                assert chunk == taken[-1]
            else:
                assert isinstance(verdict, Fault)
        assert one.epoch >= epoch
        assert one.provisional == provisional
        assert [p for chunk in computing for p in range(chunk.position, chunk.end)] == list(
            range(one.done, one.position)
        ), "what the engine has leads from what is computed to what was taken"
        assert [p for chunk in taken for p in range(chunk.position, chunk.end)] == list(range(one.position))
