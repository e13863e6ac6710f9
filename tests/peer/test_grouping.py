from __future__ import annotations

import pytest

from peer.grouping import AGAIN, SETTLE, TRY, Grouping, _size


def go_round(grouping: Grouping, sessions: int, rounds: int, one_s: float, groups_s: float) -> list[bool]:
    """A ring in which a round takes so long in the one way or the other; what was said before each round."""
    said: list[bool] = []
    for _ in range(rounds):
        grouped = grouping.grouped(sessions)
        said.append(grouped)
        for _ in range(2 if grouped else 1):
            rows = sessions // 2 if grouped else sessions
            grouping.observe(sessions, grouped, rows, groups_s if grouped else one_s)
    return said


@pytest.mark.parametrize(("one_s", "groups_s", "best"), [(1.0, 1.4, False), (1.4, 1.0, True), (1.0, 1.0, False)])
def test_both_ways_are_tried_and_the_faster_one_is_kept(one_s: float, groups_s: float, best: bool):
    grouping = Grouping()
    said = go_round(grouping, 8, 200, one_s, groups_s)
    assert said[0] is False and True in said
    assert set(said[2 * (TRY + SETTLE) + 2 :]) == {best}


def test_the_one_that_lost_is_tried_again_and_wins_once_it_is_faster():
    grouping = Grouping()
    assert go_round(grouping, 8, 100, 1.0, 1.4)[-1] is False
    assert True in go_round(grouping, 8, AGAIN + 50, 1.0, 0.5)
    assert go_round(grouping, 8, 10, 1.0, 0.5)[-1] is True


def test_a_trial_in_vain_is_a_small_part_of_all_rounds():
    said = go_round(Grouping(), 8, 10 * AGAIN, 1.0, 1.4)
    assert sum(said) < 0.02 * len(said)


def test_a_difference_within_the_noise_changes_nothing():
    grouping = Grouping()
    go_round(grouping, 8, 100, 1.0, 1.4)
    assert set(go_round(grouping, 8, 100, 1.0, 0.99)) == {False}


def test_few_sessions_and_many_are_judged_by_themselves():
    grouping = Grouping()
    go_round(grouping, 4, 100, 1.0, 1.4)
    go_round(grouping, 16, 100, 1.4, 1.0)
    assert (grouping.grouped(4), grouping.grouped(16)) == (False, True)


def test_a_number_not_seen_yet_begins_with_what_was_found_near_by():
    grouping = Grouping()
    go_round(grouping, 4, 100, 1.0, 1.4)
    go_round(grouping, 16, 100, 1.4, 1.0)
    assert (grouping.grouped(5), grouping.grouped(20)) == (False, True)
    assert set(go_round(grouping, 20, 100, 1.0, 1.4)[50:]) == {False}, "and is judged by itself"


def test_sizes_grow_with_the_number_and_are_few():
    sizes = [_size(sessions) for sessions in range(1, 65)]
    assert sizes == sorted(sizes) and len(set(sizes)) < 25
    assert _size(16) == _size(19) != _size(20)


def test_the_rounds_right_after_a_change_do_not_count():
    grouping = Grouping()
    for _ in range(SETTLE):
        grouping.observe(8, False, 8, 100.0)
    go_round(grouping, 8, TRY + 1, 1.0, 1.2)
    go_round(grouping, 8, TRY + SETTLE + 2, 1.0, 1.2)
    assert grouping.grouped(8) is False


def test_where_prefill_waits_groups_are_taken_though_they_are_a_little_slower():
    grouping = Grouping()
    go_round(grouping, 8, 100, 1.0, 1.08)
    assert (grouping.grouped(8), grouping.grouped(8, prefill_waits=True)) == (False, True)
    slower = Grouping()
    go_round(slower, 8, 100, 1.0, 1.2)
    assert slower.grouped(8, prefill_waits=True) is False
