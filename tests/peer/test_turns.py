from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.turns import Turns


def served(turns: Turns, costs: dict[str, int], rounds: int) -> dict[str, int]:
    total = dict.fromkeys(costs, 0)
    for _ in range(rounds):
        client = turns.first(costs)
        turns.charge(client, costs[client])
        total[client] += costs[client]
    return total


def joined(*clients: str, quantum: int = 10) -> Turns:
    turns = Turns(quantum)
    for client in clients:
        turns.join(client)
    return turns


def test_a_turn_lasts_until_the_quantum_is_used_up():
    turns = joined("a", "b")
    seen: list[str] = []
    for _ in range(6):
        seen.append(turns.first("ab"))
        turns.charge(seen[-1], 5)
    assert seen == ["a", "a", "b", "b", "a", "a"]


def test_who_takes_more_than_its_quantum_waits_it_out():
    assert served(joined("dear", "cheap", quantum=1), {"dear": 4, "cheap": 1}, 50) == {"dear": 40, "cheap": 40}


def test_who_waits_for_nothing_keeps_no_credit():
    turns = joined("a", "b")
    for _ in range(20):
        turns.charge(turns.first("b"), 10)
    assert len(turns) == 1
    turns.join("a")
    turns.charge(turns.first("ab"), 10)
    assert served(turns, {"a": 10, "b": 10}, 10) == {"a": 50, "b": 50}


def test_whoever_asks_must_have_joined():
    with pytest.raises(AssertionError, match="joined"):
        joined("a").first("b")


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 7), min_size=2), st.integers(1, 9))
def test_shares_are_equal_but_for_a_turn(costs: dict[str, int], quantum: int):
    total = served(joined(*costs, quantum=quantum), costs, 400)
    assert max(total.values()) - min(total.values()) <= 2 * (quantum + max(costs.values()))
