"""Guesses change nothing: not a token where they are checked, not the distribution that tokens come from.

The last Hop draws after every row as if it were the only one, and goes on to the next row while the guess was what came
out (``draw_along``). What is drawn depends on (logits, seed, position, history) alone, and a row's logits on the tokens
before it alone, so by induction every token is the one of plain decoding.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.types import SeatRows
from model.config import read_config
from model.sampler import draw, draw_along
from model.source import open_source
from model.span_model import SpanModel
from swarm.draft import Drafter
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support.checkpoints import make_checkpoint

VOCAB = 12
TABLE = torch.randn(VOCAB, VOCAB, VOCAB, generator=torch.Generator().manual_seed(0)) * 2
PROMPT = (1, 2, 3, 1, 2, 3)

WAYS = {
    "greedy": SamplingParams(),
    "temperature": SamplingParams(temperature=1.0),
    "hot": SamplingParams(temperature=2.0),
    "top_p": SamplingParams(temperature=1.5, top_p=0.9),
    "top_k and min_p": SamplingParams(temperature=1.2, top_k=5, min_p=0.05),
    "repetition": SamplingParams(temperature=0.9, repetition_penalty=1.4),
    "presence and frequency": SamplingParams(temperature=1.0, presence_penalty=0.7, frequency_penalty=0.6),
    "greedy with penalties": SamplingParams(repetition_penalty=1.3, frequency_penalty=0.4),
}


def logits_after(tokens: Sequence[int]) -> Tensor:
    """A language model: the next token depends on the last two. f32 [VOCAB]"""
    return TABLE[tokens[-2], tokens[-1]]


def checked(tokens: Sequence[int], guesses: Sequence[int], params: SamplingParams) -> list[int]:
    """The tokens that one step with ``guesses`` behind ``tokens`` gives: one more than were right."""
    rows = torch.stack([logits_after([*tokens, *guesses[:count]]) for count in range(len(guesses) + 1)])
    return [drawn.token_id for drawn in draw_along(rows, params, len(tokens), tokens, len(PROMPT), guesses)]


def plain(params: SamplingParams, count: int) -> list[int]:
    tokens = list(PROMPT)
    for _ in range(count):
        tokens.append(draw(logits_after(tokens), params, len(tokens), tokens, len(PROMPT)).token_id)
    return tokens[len(PROMPT) :]


def with_seed(params: SamplingParams, seed: int) -> SamplingParams:
    return SamplingParams(**{name: getattr(params, name) for name in params.__slots__} | {"seed": seed})


@pytest.mark.parametrize("way", WAYS)
def test_a_drafted_generation_is_the_plain_one_token_by_token(way: str):
    steps = accepted = 0
    for seed in range(12):
        params = with_seed(WAYS[way], seed)
        drafter, tokens = Drafter(PROMPT, 6), list(PROMPT)
        drafter.pace.cost = 0.001  # as many guesses as can be had
        while len(tokens) < len(PROMPT) + 60:
            guesses = drafter.propose()
            drawn = checked(tokens, guesses, params)
            drafter.append(drawn)
            if guesses:
                drafter.accepted(len(guesses), len(drawn) - 1)
            tokens += drawn
            steps += 1
            accepted += len(drawn) - 1
        assert tokens[len(PROMPT) :] == plain(params, len(tokens) - len(PROMPT))
    assert accepted > 0, "no guess was right, so nothing is shown"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(WAYS)), st.integers(0, 2**64 - 1), st.data())
def test_whoever_guesses_whatever_the_tokens_are_the_plain_ones(way: str, seed: int, data: st.DataObject):
    params = with_seed(WAYS[way], seed)
    expected, tokens = plain(params, 24), list(PROMPT)
    while len(tokens) < len(PROMPT) + 16:
        done = len(tokens) - len(PROMPT)
        right = expected[done : done + data.draw(st.integers(0, 4))]
        wrong = data.draw(st.lists(st.integers(0, VOCAB - 1), max_size=3))
        drawn = checked(tokens, [*right, *wrong], params)
        assert len(drawn) > len(right) and drawn == expected[done : done + len(drawn)]
        tokens += drawn


@pytest.mark.parametrize("way", ["temperature", "top_p", "presence and frequency"])
def test_over_many_seeds_the_drafted_position_has_the_distribution_of_plain_sampling(way: str):
    """Pearson's test at 0.1 % of two samples: what came second where the guess was right, and plain draws there with
    other seeds. The guess is always the same one, the likeliest.
    """
    seeds, prompt = 1500, list(PROMPT)
    first = int(logits_after(prompt).argmax())
    drafted, truth = Counter[int](), Counter[int]()
    for seed in range(seeds):
        drawn = checked(prompt, [first], with_seed(WAYS[way], seed))
        if len(drawn) > 1:
            drafted[drawn[1]] += 1
    for seed in range(20_000, 20_000 + seeds):
        truth[checked([*prompt, first], [], with_seed(WAYS[way], seed))[0]] += 1
    count = drafted.total()
    assert count > 200 and len(truth) > 2
    statistic = sum(
        (drafted[token_id] / count - truth[token_id] / seeds) ** 2
        / ((drafted[token_id] + truth[token_id]) / (count + seeds) * (1 / count + 1 / seeds))
        for token_id in truth | drafted
    )
    freedom = len(truth | drafted) - 1
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize("way", ["greedy", "temperature", "repetition"])
def test_a_model_that_checks_drafts_in_one_pass_and_rolls_back_says_what_it_would_have_said(tmp_path: Path, way: str):
    """The rows of a Chunk with drafts, over KV that still holds rejected ones, have the bits of single steps."""
    make_checkpoint(tmp_path, num_hidden_layers=2, vocab_size=VOCAB)
    config, span = read_config(tmp_path), Span(0, 2)
    model = SpanModel.load(open_source(str(tmp_path)), config, span, "c8", 8)
    params, pages, chance = with_seed(WAYS[way], 3), tuple(range(4)), random.Random(0)

    def step(tokens: list[int], position: int, guesses: Sequence[int]) -> list[int]:
        ids = [*tokens[position:], *guesses]
        x = model.run(span, model.embed(ids), [SeatRows(pages, position, len(ids))])
        logits = model.logits(x[-1 - len(guesses) :])
        return [drawn.token_id for drawn in draw_along(logits, params, len(tokens), tokens, len(PROMPT), guesses)]

    expected = list(PROMPT)
    expected += step(expected, 0, ())
    while len(expected) < 100:
        expected += step(expected, len(expected) - 1, ())
    tokens = list(PROMPT)
    tokens += step(tokens, 0, ())
    lengths = set[int]()
    while len(tokens) < 90:
        right = expected[len(tokens) : len(tokens) + chance.randrange(4)]
        drawn = step(tokens, len(tokens) - 1, [*right, *chance.choices(range(VOCAB), k=chance.randrange(4))])
        tokens += drawn
        lengths.add(len(drawn))
    assert tokens == expected[: len(tokens)] and len(lengths) > 2
