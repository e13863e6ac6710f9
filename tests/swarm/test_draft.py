from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.draft import ALLOWANCE, EXTRA_ROW_COST, FULL_PURSE, LONGEST, LOOKED_AT, Drafter, Pace, PromptLookup

COSTS = [0.05, 0.1, 0.15]
few_tokens = st.integers(1, 4).flatmap(lambda top: st.lists(st.integers(0, top), max_size=60))


def scan(tokens: Sequence[int], count: int) -> tuple[int, ...]:
    """What PromptLookup promises, by looking everywhere."""
    size = len(tokens)
    places = [end for end in reversed(range(1, size - 1)) if list(tokens[end - 1 : end + 1]) == list(tokens[-2:])]
    agreeing = {
        end: next((n for n in range(LONGEST) if n > end or tokens[end - n] != tokens[size - 1 - n]), LONGEST)
        for end in places[:LOOKED_AT]
    }
    if not agreeing:
        return ()
    match = max(agreeing, key=lambda end: (agreeing[end], end))
    turning = list(tokens)
    while len(turning) < size + count:
        turning.append(turning[match + 1 + len(turning) - size])
    return tuple(turning[match + 1 : match + 1 + count])


@given(few_tokens, st.integers(0, 8))
def test_it_proposes_what_followed_the_longest_latest_match(tokens: list[int], count: int):
    assert PromptLookup(tokens).propose(count) == scan(tokens, count)


@given(st.lists(st.one_of(few_tokens, st.floats(0, 1)), max_size=12))
def test_appending_and_taking_back_in_any_order_is_as_if_only_the_rest_had_been_there(moves: list[list[int] | float]):
    lookup, tokens = PromptLookup(), list[int]()
    for move in moves:
        if isinstance(move, float):
            del tokens[int(move * len(tokens)) :]
            lookup.rollback(len(tokens))
        else:
            tokens += move
            lookup.append(move)
        assert len(lookup) == len(tokens) and lookup.propose(5) == scan(tokens, 5)


def test_a_circle_goes_on_turning():
    assert PromptLookup([7, 1, 2, 3, 1, 2, 3, 1, 2]).propose(7) == (3, 1, 2, 3, 1, 2, 3)
    assert PromptLookup([5, 5, 5]).propose(4) == (5, 5, 5, 5)


def test_only_so_many_places_are_looked_at():
    text = [1, 2, 3, 9] + [7, 2, 3, 8] * LOOKED_AT
    assert PromptLookup([*text[4:], 1, 2, 3]).propose(1) == (8,)
    assert PromptLookup([*text[:-4], 1, 2, 3]).propose(1) == (9,)
    assert PromptLookup([*text, 1, 2, 3]).propose(1) == (8,)


def test_the_latest_of_several_matches_counts_and_the_longer_before_the_later():
    assert PromptLookup([1, 2, 8, 1, 2, 9, 1, 2]).propose(1) == (9,)
    assert PromptLookup([4, 1, 2, 8, 5, 1, 2, 9, 4, 1, 2]).propose(1) == (8,)


def test_what_never_came_before_is_not_guessed():
    assert PromptLookup().propose(3) == () and PromptLookup([1]).propose(3) == ()
    assert PromptLookup(range(100)).propose(3) == () and PromptLookup([1, 2, 1]).propose(3) == ()


def test_rollback_forgets_every_note():
    lookup = PromptLookup([1, 2, 3, 4])
    lookup.append([1, 2, 9, 1, 2])
    assert lookup.propose(1) == (9,)
    lookup.rollback(4)
    assert lookup.propose(1) == ()
    lookup.append([1, 2])
    assert lookup.propose(2) == (3, 4)
    with pytest.raises(AssertionError, match="cannot go back to 7 of 6"):
        lookup.rollback(7)


class Run:
    """A generation whose tokens are known, on a clock that charges ``cost`` of a step for every guess."""

    def __init__(
        self, prompt: Sequence[int], answer: Sequence[int], cost: float, measure: bool = False, jitter: float = 0.0
    ):
        self.drafted = self.accepted = self.steps = 0
        self.seconds, self.worst = 0.0, 0.0
        drafter, tokens, chance = Drafter(prompt, 12), list(prompt), random.Random(0)
        done = 0
        while done < len(answer):
            guesses = drafter.propose(len(answer) - done - 1)
            right = 0
            while right < len(guesses) and guesses[right] == answer[done + right]:
                right += 1
            drawn = answer[done : done + right + 1]
            took = 1 + cost * len(guesses)
            drafter.append(drawn)
            if guesses:
                drafter.accepted(len(guesses), right)
            if measure:
                drafter.observe(1 + len(guesses), took * chance.uniform(1 - jitter, 1 + jitter))
            tokens += drawn
            done += len(drawn)
            self.steps += 1
            self.seconds += took
            self.drafted += len(guesses)
            self.accepted += right
            self.worst = max(self.worst, self.seconds / done)
        self.drafter = drafter
        self.speedup = len(answer) / self.seconds


def noise(vocabulary: int, count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(vocabulary), k=count)


def deceiver(count: int) -> list[int]:
    """Text that always says what the lookup does not expect."""
    lookup, tokens = PromptLookup(), list[int]()
    for _ in range(count):
        guess = lookup.propose(1)
        tokens.append((guess[0] + 1) % 3 if guess else 0)
        lookup.append(tokens[-1:])
    return tokens


@pytest.mark.parametrize("cost", COSTS)
def test_repetitive_text_is_at_least_twice_as_fast(cost: float):
    page = noise(5000, 400)
    assert Run(page, page, cost).speedup >= 2  # as in: "repeat this with one word changed"
    assert Run(page[:5], page[:20] * 12, cost).speedup >= 2
    assert Run([1], [7] * 200, cost).speedup >= 2


HOPELESS: list[Callable[[], list[int]]] = [
    lambda: noise(2, 600), lambda: noise(10, 600), lambda: noise(50, 600), lambda: noise(5000, 600),
    lambda: deceiver(600),
]  # fmt: skip


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("text", HOPELESS)
def test_hopeless_text_costs_at_most_three_percent_at_every_moment(cost: float, text: Callable[[], list[int]]):
    tokens = text()
    for measure in (False, True):
        run = Run(tokens[:100], tokens[100:], cost, measure)
        assert run.drafted or max(tokens) > 1000, "nothing was risked, so nothing is shown"
        assert run.worst <= 1.03


@pytest.mark.parametrize("cost", COSTS)
def test_a_clock_that_jitters_changes_neither_bound(cost: float):
    for jitter in (0.1, 0.3, 0.6):
        assert Run(noise(10, 100), noise(10, 600, seed=1), cost, True, jitter).worst <= 1.03
        assert Run(noise(5000, 400), noise(5000, 400), cost, True, jitter).speedup >= 2


def test_in_the_long_run_hopeless_text_costs_next_to_nothing():
    assert Run([], deceiver(4000), 0.15).speedup >= 0.995


def test_text_that_changes_is_followed():
    page = noise(5000, 300)
    found = Run(page, deceiver(1000) + page, 0.1)
    only = Run(page, page, 0.1)
    assert found.steps <= 1000 + only.steps + 64 + 20  # one silence, one purse to fill


outcomes = st.lists(st.floats(0, 1), min_size=1, max_size=300)


@given(outcomes, st.sampled_from(COSTS), st.integers(0, 16))
def test_whatever_comes_the_loss_stays_within_the_allowance(fates: list[float], cost: float, most: int):
    pace, lost = Pace(most, cost), 0.0
    for step, fate in enumerate(fates, 1):
        pace.begin()
        drafted = pace.limit
        right = int(fate * drafted)
        assert 0 <= drafted <= most
        pace.accepted(drafted, right)
        lost += cost * drafted - right
        assert lost <= ALLOWANCE * step + 1e-9


def fed(pace: Pace, rounds: int = 40) -> Pace:
    for _ in range(rounds):
        pace.begin()
        pace.accepted(pace.limit, pace.limit)
    return pace


def test_it_grows_with_success_and_begins_with_one():
    pace, limits = Pace(12), list[int]()
    for _ in range(30):
        pace.begin()
        limits.append(pace.limit)
        pace.accepted(pace.limit, pace.limit)
    assert limits[0] == 0 and next(limit for limit in limits if limit) == 1
    assert limits == sorted(limits) and limits[-1] == 12


def test_failures_end_in_longer_and_longer_silence():
    pace = fed(Pace(12))
    probes, step = list[int](), 0
    while step < 2000:
        pace.begin()
        if pace.limit:
            probes.append(step)
        pace.accepted(pace.limit, 0)
        step += 1
    waits = [after - before for before, after in pairwise(probes)]
    assert waits[0] == 1 and waits[-1] == 64 and waits[3:] == sorted(waits[3:])


def test_the_end_of_a_long_repetition_costs_at_most_a_full_purse():
    pace, lost = fed(Pace(12), 500), 0.0
    for _ in range(30):
        pace.begin()
        lost += pace.cost * pace.limit
        pace.accepted(pace.limit, 0)
    assert lost <= FULL_PURSE + 30 * ALLOWANCE


def test_guesses_that_cost_less_are_made_more():
    limits = list[int]()
    for cost in (0.05, 0.3):
        pace = Pace(12, cost)
        for _ in range(200):
            pace.begin()
            pace.accepted(pace.limit, (pace.limit + 1) // 2)
        pace.begin()
        limits.append(pace.limit)
    assert limits[0] > limits[1]


def test_the_cost_of_a_row_is_learned_from_steps():
    pace = Pace(12)
    pace.observe(5, 9.0)
    assert pace.cost == EXTRA_ROW_COST  # compared with what?
    for _ in range(60):
        pace.observe(1, 0.2)
        pace.observe(5, 0.2 * (1 + 4 * 0.04))
    assert pace.cost == pytest.approx(0.04, rel=0.01)
    for _ in range(60):
        pace.observe(3, 100.0)
    assert pace.cost <= 1.0
    for _ in range(200):
        pace.observe(3, 0.0)
    assert 0 < pace.cost < 0.01


def test_a_drafter_that_may_not_draft_does_not():
    drafter = Drafter([1, 2, 3] * 20, 0)
    for _ in range(50):
        assert drafter.propose() == ()


def test_a_drafter_keeps_to_what_is_left_to_draw():
    drafter = Drafter([1, 2, 3] * 20, 8)
    for _ in range(50):
        drafter.propose()
    assert len(drafter.propose()) > 1 and len(drafter.propose(1)) == 1 and drafter.propose(0) == ()
    assert drafter.propose(-1) == ()


def test_a_drafter_guesses_from_what_is_left_after_a_rollback():
    drafter = Drafter([1, 2, 3, 4, 9, 1, 2], 4)
    for _ in range(50):
        drafter.propose()
    drafter.append([7, 1, 2])
    assert drafter.propose(1) == (7,)
    drafter.rollback(7)
    assert drafter.propose(2) == (3, 4)
