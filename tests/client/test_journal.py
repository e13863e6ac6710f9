"""The Journal returns what was put, forgets what it must, and counts its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.journal import Budget, Journal
from proto.messages import Hidden, WireDType
from swarm.span import Span


def rows(start: int, count: int) -> Hidden:
    """Rows whose bytes tell their position."""
    return Hidden(WireDType.BF16, count, 2, b"".join(bytes([p, p, p, p]) for p in range(start, start + count)))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_any_range_comes_back_as_it_was_put(counts: list[int], data: st.DataObject):
    journal = Journal((1, 2, 3), Budget(1 << 20))
    for count in counts:
        journal.put(4, journal.extent(4)[1], rows(journal.extent(4)[1], count))
    total = sum(counts)
    assert journal.extent(4) == (0, total)
    start = data.draw(st.integers(0, total - 1))
    end = data.draw(st.integers(start + 1, total))
    assert journal.hidden(4, start, end) == rows(start, end - start)


def test_tokens_are_appended_at_the_first_unknown_position_and_nowhere_else():
    journal = Journal((5, 6), Budget(0))
    journal.append(2, 7)
    assert journal.tokens(0, 3) == (5, 6, 7) and len(journal) == 3
    for position in (2, 4):
        with pytest.raises(AssertionError):
            journal.append(position, 8)


def test_rows_are_put_where_the_last_ended_and_nowhere_else():
    journal = Journal((1,), Budget(1 << 20))
    journal.put(3, 0, rows(0, 2))
    for position in (0, 3):
        with pytest.raises(AssertionError):
            journal.put(3, position, rows(position, 1))


def test_a_spent_budget_makes_it_shed_what_the_next_hop_has_taken():
    budget = Budget(20)
    journal = Journal((1,), budget)
    journal.put(3, 0, rows(0, 4))
    journal.shed([(0, 4), (3, 2)])
    assert journal.extent(3) == (0, 4), "nothing is shed before the budget is spent"
    journal.put(3, 4, rows(4, 4))
    journal.shed([(0, 8), (3, 6)])
    assert journal.extent(3) == (4, 8)
    assert journal.hidden(3, 6, 8) == rows(6, 2)
    assert budget.used == 16


def test_boundaries_are_kept_only_where_hops_begin():
    budget = Budget(1 << 20)
    journal = Journal((1,), budget)
    for boundary in (2, 3, 4):
        journal.put(boundary, 0, rows(0, 3))
    journal.keep([0, 3])
    assert [journal.extent(b) for b in (2, 3, 4)] == [(0, 0), (0, 3), (0, 0)]
    assert budget.used == 12
    journal.close()
    journal.close()
    assert budget.used == 0


def test_inside_a_gap_only_complete_boundaries_are_of_use():
    journal = Journal((1,), Budget(0))
    for boundary in (2, 3, 5):
        journal.put(boundary, 0, rows(0, 1))
        journal.put(boundary, 1, rows(1, 1))
    journal.shed([(3, 2), (5, 2)])
    journal.drop_incomplete(Span(1, 5))
    assert [journal.extent(b) for b in (2, 3, 5)] == [(0, 2), (0, 0), (1, 2)]
