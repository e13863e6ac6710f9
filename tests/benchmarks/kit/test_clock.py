from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.kit.clock import Samples, take_turns


def test_contestants_take_turns_and_the_first_round_does_not_count():
    order: list[str] = []
    times: dict[str, Iterator[float]] = {"a": iter([9.0, 1.0, 2.0, 6.0]), "b": iter([9.0, 4.0, 4.0, 4.0])}

    def contestant(name: str) -> float:
        order.append(name)
        return next(times[name])

    advanced: list[int] = []
    taken = take_turns(
        {"a": lambda: contestant("a"), "b": lambda: contestant("b")}, 3, lambda: advanced.append(len(order))
    )
    assert order == ["a", "b"] * 4
    assert advanced == [2, 4, 6, 8]
    assert taken.seconds == {"a": [1.0, 2.0, 6.0], "b": [4.0, 4.0, 4.0]}
    assert taken.median("a") == 2.0


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    taken = Samples({"ours": [1.0, 4.0, 1.0], "theirs": [2.0, 8.0, 3.0]})
    assert taken.speed("ours", "theirs") == pytest.approx(2.0)  # the ratio of medians would be 3
    assert taken.speed("theirs", "ours") == pytest.approx(0.5)
