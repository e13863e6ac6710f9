"""The Journal knows the tokens, carries what the client carries, and counts its bytes."""

from __future__ import annotations

import pytest

from client.journal import Budget, Journal
from proto.messages import Chunk, Hidden, Want, WireDType

ROW = 4  # bytes


def chunk(start: int, count: int, drafts: tuple[int, ...] = ()) -> Chunk:
    """Rows whose bytes tell their position."""
    data = b"".join(bytes([p, p, p, p]) for p in range(start, start + count))
    return Chunk(start, start, count, Want.NOTHING, hidden=Hidden(WireDType.BF16, count, 2, data), drafts=drafts)


def carrying(*boundaries: int, limit: int = 1 << 20) -> tuple[Journal, Budget]:
    budget = Budget(limit)
    journal = Journal((1, 2, 3), budget)
    for boundary in boundaries:
        journal.flow(boundary).turn(0, 0, 0, 16, keeps=True)
    return journal, budget


def test_tokens_are_appended_at_the_first_unknown_position_and_nowhere_else():
    journal = Journal((5, 6), Budget(0))
    journal.append(2, 7)
    assert journal.tokens(0, 3) == (5, 6, 7) and len(journal) == 3
    for position in (2, 4):
        with pytest.raises(AssertionError):
            journal.append(position, 8)


def test_what_crosses_is_sent_on_and_kept():
    journal, budget = carrying(4)
    assert journal.put(4, chunk(0, 3)) == [chunk(0, 3)]
    assert journal.put(4, chunk(3, 1)) == [chunk(3, 1)]
    assert journal.held(4) == (0, 4) and budget.used == 4 * ROW
    assert journal.held(2) == (0, 0)


def test_rows_are_put_where_the_last_ended_and_nowhere_else():
    journal, _ = carrying(4)
    journal.put(4, chunk(0, 2))
    for position in (0, 1, 3):
        assert journal.resume(4, position) == 2
        with pytest.raises(AssertionError):
            journal.put(4, chunk(position, 1))


def test_drafts_may_be_taken_back_and_nothing_before_them():
    journal, budget = carrying(4)
    journal.put(4, chunk(0, 5, drafts=(8, 9)))
    assert journal.resume(4, 2) == 5, "that was no draft"
    assert journal.resume(4, 5) == 5
    assert journal.resume(4, 4) == 4
    assert journal.put(4, chunk(4, 2)) == [chunk(4, 2)]
    assert journal.held(4) == (0, 6) and budget.used == 6 * ROW
    assert journal.resume(4, 5) == 6, "the drafts were those of the Chunk before"
    journal.put(4, chunk(6, 2, drafts=(1,)))
    journal.halt()
    assert journal.resume(4, 7) == 8, "after trouble everybody is told where to go on"


def test_nothing_crosses_while_it_is_halted_and_what_is_held_is_sent_again():
    journal, _ = carrying(4)
    journal.put(4, chunk(0, 2))
    journal.halt()
    assert journal.put(4, chunk(2, 2)) == []
    flow = journal.flow(4)
    flow.turn(2, 1, 7, 16, keeps=True)
    (again,) = flow.take()
    assert (again.position, again.end, again.step) == (1, 2, 7)


def test_a_spent_budget_makes_it_forget_what_was_sent():
    journal, budget = carrying(4, limit=6 * ROW)
    journal.put(4, chunk(0, 4))
    assert journal.held(4) == (0, 4), "nothing is forgotten before the budget is spent"
    journal.put(4, chunk(4, 4))
    first, end = journal.held(4)
    assert first > 0 and end == 8
    assert budget.used <= 6 * ROW


def test_a_budget_is_shared():
    budget = Budget(4 * ROW)
    one, other = (Journal((1,), budget) for _ in range(2))
    for journal in (one, other):
        journal.flow(4).turn(0, 0, 0, 16, keeps=True)
    one.put(4, chunk(0, 3))
    other.put(4, chunk(0, 2))
    other.put(4, chunk(2, 1))
    assert one.held(4) == (0, 3) and other.held(4)[0] > 0
    one.close()
    assert not budget.spent


def test_boundaries_are_kept_only_where_the_client_carries():
    journal, budget = carrying(2, 3, 4)
    for boundary in (2, 3, 4):
        journal.put(boundary, chunk(0, 3))
    journal.keep([0, 3])
    assert [journal.held(b) for b in (2, 3, 4)] == [(0, 0), (0, 3), (0, 0)]
    assert budget.used == 3 * ROW
    journal.close()
    journal.close()
    assert budget.used == 0
