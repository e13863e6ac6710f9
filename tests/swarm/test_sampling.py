from __future__ import annotations

from typing import Any

import pytest

from swarm.errors import UsageError
from swarm.sampling import MAX_LOGPROBS, Grammar, GrammarKind, SamplingParams


def test_the_default_is_greedy_and_needs_no_history():
    params = SamplingParams()
    assert params.greedy and not params.needs_history


@pytest.mark.parametrize("name", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_penalties_need_the_tokens_so_far(name: str):
    assert SamplingParams(**{name: 1.5}).needs_history


def test_a_grammar_needs_them_too_and_bias_and_a_least_length_do_not():
    grammar = SamplingParams(grammar=Grammar(GrammarKind.LARK, "x"))
    assert grammar.needs_history and not grammar.penalises
    assert not SamplingParams(logit_bias=((1, 2.0),), min_tokens=4, end_token_ids=(0,)).needs_history


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": 1e-39},
        {"repetition_penalty": 100.1},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 10**400},  # too large even for a float
        {"logit_bias": ((1, 100.5),)},
        {"logit_bias": ((1, float("nan")),)},
        {"min_tokens": -1},
        {"min_tokens": (1 << 20) + 1},
        {"logprobs": -1},
        {"logprobs": MAX_LOGPROBS + 1},
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_bounds(changes: dict[str, Any]):
    with pytest.raises(UsageError, match=rf"{next(iter(changes))} must lie in"):
        SamplingParams(**changes)


def test_the_bounds_themselves_are_allowed():
    SamplingParams(repetition_penalty=0.01)
    SamplingParams(temperature=100.0, top_p=1.0, min_p=1.0, presence_penalty=-2.0, seed=2**64 - 1, logprobs=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logit_bias": ((1, 1.0), (1, 2.0))}, "logit_bias names a token twice"),
        ({"logit_bias": tuple((n, 1.0) for n in range(1025))}, "logit_bias's number of tokens must lie in"),
        ({"end_token_ids": tuple(range(1025))}, "end_token_ids' number must lie in"),
    ],
)
def test_lists_have_bounds_too(changes: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        SamplingParams(**changes)
