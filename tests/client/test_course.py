"""Where everybody goes on after trouble. Every case is small enough to be thought through."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from client.course import Stand, settle


@dataclass(frozen=True, slots=True)
class At:
    position: int
    kept_from: int


CAP = 50


def test_all_new_begin_at_the_beginning():
    assert settle([At(0, 0)] * 3, [None] * 3, CAP) == [Stand(0, 0)] * 3


def test_nobody_goes_past_the_last_known_token():
    """The ring ran ahead of what the client has read."""
    assert settle([At(60, 0), At(58, 0)], [None, None], CAP) == [Stand(50, 50), Stand(50, 0)]


def test_a_new_hop_gets_the_journal_of_the_one_before():
    assert settle([At(40, 0), At(0, 0), At(38, 0)], [None] * 3, CAP) == [Stand(40, 0), Stand(0, 38), Stand(38, 0)]


def test_where_the_journal_begins_too_late_the_hop_before_computes_again():
    assert settle([At(40, 10), At(0, 0)], [None, None], CAP) == [Stand(0, 0), Stand(0, 0)]


def test_the_gap_grows_upstream_only_as_far_as_nobody_has_the_rows():
    places = [At(40, 0), At(40, 30), At(0, 0)]
    assert settle(places, [None] * 3, CAP) == [Stand(40, 0), Stand(0, 0), Stand(0, 0)]


def test_what_the_client_carried_it_sends_again_and_nobody_is_rolled_back():
    assert settle([At(40, 40), At(0, 0)], [(0, 40), None], CAP) == [Stand(40, 40), Stand(0, 0)]


def test_what_the_client_has_of_it_is_skipped_by_a_hop_that_computes_it_again():
    assert settle([At(0, 0), At(0, 0)], [(0, 40), None], CAP) == [Stand(0, 40), Stand(0, 0)]


def test_a_client_that_had_to_forget_the_beginning_has_the_hop_compute_again():
    assert settle([At(40, 40), At(0, 0)], [(10, 40), None], CAP) == [Stand(0, 0), Stand(0, 0)]
    assert settle([At(40, 40), At(20, 20)], [(10, 40), None], CAP) == [Stand(40, 40), Stand(20, 0)]


def test_what_never_reached_the_client_is_computed_again():
    assert settle([At(45, 45), At(30, 30)], [(0, 40), None], CAP) == [Stand(40, 40), Stand(30, 0)]


PLACES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda p: At(p[0], min(p))), min_size=1, max_size=6
)
HELD = st.none() | st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda held: (min(held), max(held)))


@given(PLACES, st.data(), st.integers(0, 60))
def test_every_courier_can_give_what_the_next_one_lacks(places: list[At], data: st.DataObject, cap: int):
    carried = [data.draw(HELD) for _ in places]
    stands = settle(places, carried, cap)
    for index, (place, stand) in enumerate(zip(places, stands, strict=True)):
        assert stand.position <= min(place.position, cap), "nobody skips anything"
        if index == len(places) - 1:
            assert stand == Stand(min(place.position, cap), 0)
            continue
        behind, held = stands[index + 1].position, carried[index]
        if stand.wanted > behind:
            assert held is not None and held[0] <= behind and stand.wanted <= held[1], "the client has what is between"
        else:
            assert stand.wanted == behind
        if stand.position > stand.wanted:
            assert place.kept_from <= stand.wanted, "the Hop has it, or computes it again"
