from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.swap import Plan, Standing, plan


def needy(name: str, opened: int, lacks: int, held: int = 0) -> Standing[str]:
    return Standing(name, opened, 0.0, held, lacks, in_batch=True)


def idle(name: str, opened: int, held: int, last_active_s: float = 0.0) -> Standing[str]:
    return Standing(name, opened, last_active_s, held)


def waiting(name: str, opened: int, held: int) -> Standing[str]:
    return Standing(name, opened, 0.0, held, waiting=True)


def test_nobody_leaves_where_there_is_enough():
    assert plan([needy("a", 0, 2), idle("b", 1, 5)], 2) == Plan((), ("a",), ())


def test_the_least_recently_active_of_the_idle_leaves_first_and_no_more_than_needed():
    idles = [idle("recent", 1, 2, 9.0), idle("long ago", 2, 2, 1.0), idle("between", 3, 2, 5.0)]
    assert plan([needy("a", 9, 3), *idles], 0) == Plan(("long ago", "between"), ("a",), ())


def test_who_waits_leaves_only_for_an_older_one_the_youngest_first():
    others = [waiting("oldest", 0, 5), waiting("young", 3, 2), waiting("younger", 4, 2)]
    assert plan([needy("a", 2, 2), *others], 0) == Plan(("younger",), ("a",), ())
    assert plan([needy("a", 2, 5), *others], 0) == Plan((), (), ("a",)), "and nobody leaves in vain"


def test_who_is_idle_leaves_before_who_waits():
    assert plan([needy("a", 0, 2), waiting("b", 2, 2), idle("c", 1, 2, 9.0)], 0).leave == ("c",)


def test_of_two_in_the_batch_that_lack_a_page_the_older_goes_on():
    assert plan([needy("young", 1, 1, held=4), needy("old", 0, 1, held=4)], 0) == Plan(("young",), ("old",), ("young",))


def test_who_was_served_stays():
    assert plan([needy("old", 0, 1, held=4), needy("young", 1, 1, held=4)], 1) == Plan((), ("old",), ("young",))


def test_a_seat_that_shares_all_its_pages_frees_nothing_and_stays():
    assert plan([needy("a", 0, 2), idle("sharing", 1, 0), idle("b", 2, 2)], 0).leave == ("b",)


@st.composite
def tables(draw: st.DrawFn) -> list[Standing[int]]:
    rows = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=8))
    order = draw(st.permutations(range(len(rows))))
    return [
        Standing(i, order[i], float(held), held, lacks if kind == 0 else 0, kind == 0, kind == 1)
        for i, (held, lacks, kind) in enumerate(rows)
    ]


@given(tables(), st.integers(0, 6))
def test_a_plan_is_sound_and_the_oldest_with_work_is_never_sent_away(table: list[Standing[int]], free: int):
    result = plan(table, free)
    by_seat = {standing.seat: standing for standing in table}
    assert sorted((*result.go, *result.stay)) == sorted(s.seat for s in table if s.in_batch)
    assert not set(result.leave) & set(result.go)
    assert len(set(result.leave)) == len(result.leave)
    left = free + sum(by_seat[seat].held for seat in result.leave) - sum(by_seat[seat].lacks for seat in result.go)
    assert left >= 0
    working = [s for s in table if s.in_batch or s.waiting]
    if working:
        oldest = min(working, key=lambda s: s.opened)
        assert oldest.seat not in result.leave
        if oldest.in_batch and oldest.lacks <= free + sum(s.held for s in table if s is not oldest):
            assert oldest.seat in result.go
    assert result == plan(list(reversed(table)), free), "whatever the order they are named in"


def test_two_that_cannot_be_there_together_take_turns_without_livelock():
    """Each needs all 4 Pages; the older one finishes, then the other."""
    left = {"old": 3, "young": 3}
    held = {"old": 0, "young": 4}
    rounds = 0
    while left:
        rounds += 1
        assert rounds < 10
        table = [needy(name, 0 if name == "old" else 1, 4 - held[name], held[name]) for name in left]
        result = plan(table, 4 - sum(held.values()))
        for seat in result.leave:
            held[seat] = 0
        for seat in result.go:
            held[seat], left[seat] = 4, left[seat] - 1
            if not left[seat]:
                del left[seat]
                held[seat] = 0
    assert rounds == 6
