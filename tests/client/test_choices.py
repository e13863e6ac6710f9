from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.choices import MAX_CHOICES, SEED_BITS, Choices, mean_logprob
from swarm.errors import UsageError
from swarm.sampling import SamplingParams

seeds = st.integers(0, 2**64 - 1)


@given(seeds)
def test_one_answer_keeps_the_seed(seed: int):
    assert Choices().seeds(seed) == (seed,)


@given(seeds)
def test_seeds_differ_repeat_and_do_not_depend_on_how_many_are_asked_for(seed: int):
    many = Choices(n=MAX_CHOICES).seeds(seed)
    assert len(set(many)) == MAX_CHOICES and many[0] == seed
    assert Choices(n=2, best_of=7).seeds(seed) == many[:7]
    assert max(many[1:]) < 2**SEED_BITS and SamplingParams(seed=many[-1]).seed == many[-1]
    assert not set(many[1:]) & set(Choices(n=MAX_CHOICES).seeds((seed + 1) % 2**64))


def test_seeds_are_written_down():
    """A request with a seed repeats, also after an update."""
    assert Choices(n=3).seeds(0) == (0, 1939821315454515, 7634751282792495)


def test_the_highest_mean_comes_first_not_the_highest_sum():
    logprobs = [[-1.0], [-0.5, -0.5, -0.5], [], [-0.7, -0.7], [-0.5]]
    assert Choices(n=3, best_of=5).chosen(logprobs) == (1, 4, 3)
    assert Choices(n=4, best_of=5).chosen(logprobs)[-1] == 0 and mean_logprob([]) == float("-inf")


def test_where_nothing_is_to_be_chosen_the_order_of_seeds_stands():
    assert Choices(n=2).chosen([[-9.0], [-1.0]]) == (0, 1)
    assert Choices(n=2, best_of=2).chosen([[-9.0], [-1.0]]) == (0, 1)
    assert not Choices(n=2, best_of=2).ranked and Choices(n=1, best_of=2).ranked


@pytest.mark.parametrize(
    ("n", "best_of", "says"),
    [
        (0, None, r"n must lie in 1\.\.128, not 0"),
        (129, None, r"n must lie in 1\.\.128, not 129"),
        (3, 2, r"best_of must lie in 3\.\.128 \(n is 3\), not 2"),
        (1, 129, r"best_of must lie in 1\.\.128"),
    ],
)
def test_what_cannot_be_meant_is_refused(n: int, best_of: int | None, says: str):
    with pytest.raises(UsageError, match=says):
        Choices(n, best_of)
