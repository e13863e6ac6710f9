"""What a caller may ask for, what is filled in, and what is refused before anybody is troubled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from client.sampling import SEED_BITS, read_options
from swarm.errors import UsageError
from swarm.sampling import Grammar, GrammarKind

DEFAULTS = {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.05, "do_sample": True}


def test_without_a_temperature_it_is_greedy_and_the_models_defaults_count_for_nothing():
    wish = read_options({}, defaults=DEFAULTS)
    assert wish.sampling.greedy
    assert (wish.sampling.top_k, wish.sampling.top_p, wish.sampling.repetition_penalty) == (0, 1.0, 1.0)
    assert wish.max_new_tokens is None and wish.stops == ()


def test_with_a_temperature_the_models_defaults_fill_what_was_left_open():
    sampling = read_options({"temperature": 1.1, "top_p": 0.5}, defaults=DEFAULTS).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (1.1, 0.5, 20, 1.05)


@pytest.mark.parametrize("value", [None, "many", True, -1, [5], float("nan"), 10**400])
@pytest.mark.parametrize("name", ["top_k", "top_p", "min_p", "repetition_penalty"])
def test_a_default_that_cannot_be_meant_is_left_out_for_it_is_not_the_callers(name: str, value: object):
    sampling = read_options({"temperature": 1.0}, defaults={"top_k": 7, "top_p": 0.5, name: value}).sampling
    plain = read_options({"temperature": 1.0}, defaults={"top_k": 7, "top_p": 0.5, name: None}).sampling
    assert replace(sampling, seed=0) == replace(plain, seed=0)


def test_a_zero_that_was_given_is_not_replaced_by_a_default():
    assert read_options({"temperature": 1.0, "top_k": 0}, defaults=DEFAULTS).sampling.top_k == 0


def test_none_means_not_given():
    wish = read_options({"temperature": None, "seed": None, "stop": None, "logprobs": None, "stop_token_ids": None})
    assert wish.sampling.greedy and wish.stop_token_ids == frozenset()


def test_a_seed_is_drawn_where_none_is_given_and_fits_into_json():
    seeds = {read_options({}).seed for _ in range(20)}
    assert len(seeds) == 20 and all(0 <= seed < 2**SEED_BITS for seed in seeds)
    assert read_options({"seed": 7}).seed == 7


def test_end_tokens_stop_unless_they_are_to_be_ignored_and_own_stops_stop_always():
    assert read_options({"stop_token_ids": [5]}, eos_token_ids=(1, 2)).stop_token_ids == {1, 2, 5}
    assert read_options({"stop_token_ids": [5], "ignore_eos": True}, eos_token_ids=(1, 2)).stop_token_ids == {5}


def test_stop_is_one_string_or_several():
    assert read_options({"stop": "a"}).stops == ("a",)
    assert read_options({"stop": ["a", "bc"]}).stops == ("a", "bc")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"temperature": -1}, "temperature must lie in"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature must be a number, not 'hot'"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 10**400}, "top_p must be a number of a sensible size"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 1.5}, "top_k must be a whole number"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": float("inf")}, "frequency_penalty"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"logprobs": 1000}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x", 3]}, "stop"),
        ({"stop": ["x"] * 65}, "at most 64"),
        ({"stop_token_ids": ["x"]}, "stop_token_ids"),
        ({"temprature": 1}, "unknown option 'temprature'"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(options: dict[str, Any], complaint: str):
    with pytest.raises(UsageError, match=complaint):
        read_options(options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"stop": 5}, {"stop": b"abc"}, {"stop": [5]}, {"stop": {"a": 1}}, {"stop_token_ids": 5},
        {"stop_token_ids": "12"},
        {"temperature": 10**400}, {"seed": 10**5000}, {"top_k": -(10**5000)}, {"max_new_tokens": 10**5000},
        {"max_new_tokens": -(10**5000)}, {"logprobs": 10**5000}, {"stop_token_ids": [10**5000]},
    ],
)  # fmt: skip
def test_no_value_is_so_strange_that_it_becomes_another_error(options: dict[str, object]):
    with pytest.raises(UsageError, match=next(iter(options))):
        read_options(options)  # type: ignore[arg-type]


def test_biases_are_sorted_pairs():
    assert read_options({"logit_bias": {7: 1, 3: -2.5}}).sampling.logit_bias == ((3, -2.5), (7, 1.0))
    assert read_options({"logit_bias": {}}).sampling.logit_bias == ()


def test_a_least_length_forbids_every_end_even_one_that_is_ignored():
    wish = read_options({"min_tokens": 3, "stop_token_ids": [9], "ignore_eos": True}, eos_token_ids=(2,))
    assert (wish.sampling.min_tokens, wish.sampling.end_token_ids, wish.stop_token_ids) == (3, (2, 9), {9})
    assert read_options({"stop_token_ids": [9]}, eos_token_ids=(2,)).sampling.end_token_ids == ()


def test_a_schema_becomes_a_grammar():
    assert read_options({"json_schema": {"type": "string"}}).sampling.grammar == Grammar(
        GrammarKind.JSON_SCHEMA, '{"type":"string"}'
    )
    assert read_options({"grammar": "start: x"}).sampling.grammar == Grammar(GrammarKind.LARK, "start: x")
    assert read_options({"json_schema": None, "grammar": None}).sampling.grammar is None


RECURSIVE: dict[str, Any] = {}
RECURSIVE["items"] = RECURSIVE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"logit_bias": [1]}, "logit_bias must be a mapping"),
        ({"logit_bias": {"a": 1}}, "logit_bias's token id must be a whole number"),
        ({"logit_bias": {-1: 1}}, "logit_bias's token id must lie in"),
        ({"logit_bias": {1: "x"}}, "logit_bias must be a number"),
        ({"logit_bias": {1: 101}}, "logit_bias must lie in"),
        ({"min_tokens": 5, "max_new_tokens": 4}, "min_tokens is 5, more than max_new_tokens, 4"),
        ({"min_tokens": -1}, "min_tokens must lie in"),
        ({"json_schema": "x"}, "json_schema must be a mapping"),
        ({"json_schema": {"a": {1}}}, "json_schema: grammar: the schema is no JSON"),
        ({"json_schema": RECURSIVE}, "json_schema: grammar: the schema is no JSON"),
        ({"json_schema": {"a": "x" * 70000}}, "a grammar has 70008 bytes"),
        ({"grammar": 5}, "grammar must be text"),
        ({"grammar": ""}, "a grammar has 0 bytes"),
        ({"json_schema": {}, "grammar": "x"}, "give one of them"),
        ({"num_beams": 2, "json_schema": {}}, "num_beams goes with neither logit_bias"),
        ({"num_beams": 2, "logit_bias": {1: 1}}, "num_beams goes with neither logit_bias"),
        ({"num_beams": 2, "min_tokens": 1}, "num_beams goes with neither logit_bias"),
    ],
)
def test_what_cannot_be_meant_of_these_is_refused(options: Any, words: str):
    with pytest.raises(UsageError, match=words):
        read_options(options)
