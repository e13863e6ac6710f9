from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.sampler import choose, draw, draw_along
from swarm.errors import BadGrammar, BadNumbers
from swarm.sampling import Grammar, GrammarKind, SamplingParams

LOGITS = torch.tensor([1.0, 3.0, 2.0, -1.0, 0.5, 3.0])


def random_logits(seed: int = 0, size: int = 500) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


def tokens(logits: torch.Tensor, draws: int, **params: float) -> Counter[int]:
    sampling = SamplingParams(**{"temperature": 1.0, **params})  # type: ignore[arg-type]
    return Counter(draw(logits, sampling, position, (), 0).token_id for position in range(draws))


def test_greedy_takes_the_largest_and_the_lowest_id_of_equals():
    assert draw(LOGITS, SamplingParams(), 0, (), 0).token_id == 1
    assert draw(-LOGITS, SamplingParams(), 0, (), 0).token_id == 3
    assert draw(torch.zeros(9), SamplingParams(), 0, (), 0).token_id == 0


def test_a_draw_depends_on_seed_and_position_alone():
    logits = random_logits()
    first = [draw(logits, SamplingParams(temperature=1.0, seed=5), p, (), 0).token_id for p in range(50)]
    again = [draw(logits.clone(), SamplingParams(temperature=1.0, seed=5), p, (1, 2), 1).token_id for p in range(50)]
    other = [draw(logits, SamplingParams(temperature=1.0, seed=6), p, (), 0).token_id for p in range(50)]
    assert first == again and first != other and len(set(first)) > 3


def test_some_draws_are_written_down():
    """Whatever machine runs this draws the same."""
    params = SamplingParams(temperature=0.9, top_p=0.97, seed=2**64 - 1)
    logits = torch.arange(1000).float().mul(37).remainder(101).div(10)
    assert [draw(logits, params, p, (), 0).token_id for p in (0, 1, 2, 3, 10**9)] == [939, 723, 988, 442, 155]


def test_chance_is_cut_into_intervals_that_include_their_lower_end():
    params, even = SamplingParams(temperature=1.0), torch.zeros(2)
    drawn = [choose(even, params, chance) for chance in (0, 2**63 - 2**23, 2**63, 2**64 - 1)]
    assert drawn == [0, 0, 1, 1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax_at_that_temperature(temperature: float):
    draws = 4000
    counts = tokens(LOGITS, draws, temperature=temperature)
    for token_id, p in enumerate((LOGITS / temperature).softmax(-1).tolist()):
        assert abs(counts[token_id] / draws - p) < 4 * math.sqrt(p * (1 - p) / draws) + 1e-9


def test_top_k_keeps_the_k_most_likely_and_of_equals_the_lowest_ids():
    assert set(tokens(LOGITS, 300, top_k=1)) == {1}
    assert set(tokens(LOGITS, 300, top_k=3)) == {1, 5, 2}
    assert set(tokens(LOGITS, 3000, top_k=1000)) == set(range(6))


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    probabilities = torch.tensor([0.5, 0.25, 0.125, 0.125])
    logits = probabilities.log()
    assert set(tokens(logits, 300, top_p=1e-9)) == {0}
    assert set(tokens(logits, 300, top_p=0.49)) == {0}
    assert set(tokens(logits, 300, top_p=0.6)) == {0, 1}
    assert set(tokens(logits, 300, top_p=0.8)) == {0, 1, 2}
    assert set(tokens(logits, 300, top_p=0.999)) == {0, 1, 2, 3}
    assert set(tokens(torch.zeros(4), 300, top_p=0.5)) == {0, 1}


def test_top_p_counts_what_top_k_left():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert set(tokens(logits, 300, top_k=2, top_p=0.5)) == {0}  # 0.4 of 0.7 is enough
    assert set(tokens(logits, 300, top_p=0.5)) == {0, 1}


def test_min_p_is_relative_to_the_most_likely():
    logits = torch.tensor([0.5, 0.26, 0.24]).log()
    assert set(tokens(logits, 300, min_p=0.5)) == {0, 1}
    assert set(tokens(logits, 300, min_p=1.0)) == {0}
    assert set(tokens(torch.zeros(3), 300, min_p=1.0)) == {0, 1, 2}


def test_extreme_logits_and_temperatures_draw_what_they_must():
    spread = torch.tensor([-3e38, 3e38, 0.0])
    for temperature in (1e-300, 1e-6, 1.0, 100.0):
        assert set(tokens(spread, 5, temperature=temperature)) == {1}
    assert len(tokens(torch.zeros(4), 100, temperature=1e-300)) == 4


def test_the_repetition_penalty_is_transformers():
    from transformers import RepetitionPenaltyLogitsProcessor

    history = (1, 3, 3, 5)
    theirs = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([history]), LOGITS[None].clone())[0]
    params = SamplingParams(repetition_penalty=1.7)
    assert draw(LOGITS, params, 4, history, 4).token_id == int(theirs.argmax()) == 2


def test_presence_and_frequency_count_the_answer_alone():
    history = (1, 1, 1, 5, 5, 2)
    assert draw(LOGITS, SamplingParams(presence_penalty=1.5), 6, history, 3).token_id == 1
    assert draw(LOGITS, SamplingParams(presence_penalty=1.5), 6, history, 0).token_id == 1  # 1.5, as 5; lowest id
    assert (
        draw(LOGITS, SamplingParams(frequency_penalty=0.4), 6, history, 0).token_id == 5
    )  # 3 - 0.8 > 3 - 1.2, 2 - 0.4
    assert draw(LOGITS, SamplingParams(frequency_penalty=-1.0), 6, history, 3).token_id == 5


def test_drawing_leaves_the_logits_alone():
    logits = LOGITS.clone()
    draw(logits, SamplingParams(temperature=0.7, repetition_penalty=2.0, frequency_penalty=1.0), 3, (1, 2, 5), 1)
    assert torch.equal(logits, LOGITS)


def test_logprobs_are_the_models_own_whatever_the_parameters():
    logits = random_logits(3)
    expected = logits.double().log_softmax(-1)
    params = SamplingParams(temperature=0.3, top_k=5, repetition_penalty=1.5, logprobs=4, seed=9)
    drawn = draw(logits, params, 7, (1, 2, 3), 2)
    assert drawn.logprob == pytest.approx(expected[drawn.token_id].item(), abs=2e-6)
    assert [index for index, _ in drawn.top] == expected.topk(4).indices.tolist()
    assert [value for _, value in drawn.top] == pytest.approx(expected.topk(4).values.tolist(), abs=2e-6)


def test_logprobs_are_absent_unless_asked_for():
    assert draw(LOGITS, SamplingParams(), 0, (), 0).logprob is None
    none_listed = draw(LOGITS, SamplingParams(logprobs=0), 0, (), 0)
    assert none_listed.logprob is not None and none_listed.top == ()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_numbers_are_refused(poison: float):
    logits = LOGITS.clone()
    logits[3] = poison
    with pytest.raises(BadNumbers, match="position 12"):
        draw(logits, SamplingParams(temperature=1.0), 12, (), 0)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PARAMETERS = st.builds(
    SamplingParams,
    temperature=FLOATS.map(abs).filter(lambda v: v <= 100) | st.just(5e-324) | st.just(1e-40),
    top_k=st.integers(0, 9),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0.01, 100),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    seed=st.integers(0, 2**64 - 1),
    logprobs=st.none() | st.integers(0, 64),
)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=6, max_size=6), PARAMETERS)
def test_whatever_parameters_are_allowed_draw_a_token_or_say_that_numbers_went_bad(
    values: list[float], params: SamplingParams
):
    try:
        assert 0 <= draw(torch.tensor(values), params, 2**31, (1, 2, 2, 5), 1).token_id < 6
    except BadNumbers:
        assert params.needs_history


def test_a_penalty_that_makes_logits_infinite_is_refused():
    with pytest.raises(BadNumbers, match="once penalties are applied"):
        draw(torch.tensor([3e38, 0.0]), SamplingParams(temperature=1.0, repetition_penalty=0.01), 1, (0,), 1)


@given(st.lists(st.integers(0, 2), min_size=0, max_size=5), st.booleans(), st.integers(0, 50))
def test_drawing_along_guesses_is_drawing_one_by_one(drafts: list[int], needs_history: bool, seed: int):
    """Three tokens, so that guesses are often right."""
    params = SamplingParams(temperature=0.7, presence_penalty=0.5 * needs_history, seed=seed, logprobs=1)
    rows, history = random_logits(seed, (len(drafts) + 1) * 3).view(-1, 3) / 4, [2, 1]
    alone = []
    for index, row in enumerate(rows):
        alone.append(draw(row, params, 2 + index, history, 1))
        if index < len(drafts) and drafts[index] != alone[-1].token_id:
            break
        history.append(alone[-1].token_id)
    assert draw_along(rows, params, 2, (2, 1) if needs_history else (), 1, drafts) == alone


def test_what_lies_behind_a_wrong_guess_is_not_looked_at():
    rows = torch.stack([LOGITS, torch.full((6,), math.nan)])
    assert len(draw_along(rows, SamplingParams(), 7, (), 0, [2])) == 1
    with pytest.raises(BadNumbers, match="position 8"):
        draw_along(rows, SamplingParams(), 7, (), 0, [1])


def test_a_bias_is_added_before_everything_else():
    assert draw(LOGITS, SamplingParams(logit_bias=((4, 2.5),)), 0, (), 0).token_id == 1  # 3.0, as 1; lowest id
    assert draw(LOGITS, SamplingParams(logit_bias=((4, 2.75),)), 0, (), 0).token_id == 4
    assert draw(LOGITS, SamplingParams(logit_bias=((1, -100.0), (5, -100.0))), 0, (), 0).token_id == 2
    assert set(tokens(LOGITS, 200, logit_bias=((3, 100.0),))) == {3}  # type: ignore[arg-type]
    halved = SamplingParams(logit_bias=((4, 5.0),), repetition_penalty=2.0)  # (0.5 + 5) / 2 < 3
    assert draw(LOGITS, halved, 2, (4, 4), 2).token_id == 1
    drawn = draw(LOGITS, SamplingParams(logit_bias=((4, 50.0),), logprobs=1), 0, (), 0)
    assert drawn.token_id == 4 and drawn.top[0][0] == 1, "logprobs are the model's own"


def test_the_end_does_not_come_before_so_many_tokens_of_the_answer():
    params = SamplingParams(min_tokens=3, end_token_ids=(1, 5))
    assert [draw(LOGITS, params, 10 + n, (), 10).token_id for n in range(5)] == [2, 2, 2, 1, 1]
    warm = SamplingParams(temperature=1.0, min_tokens=3, end_token_ids=(1, 5))
    assert not {draw(LOGITS, warm, p, (), p - 2).token_id for p in range(2, 200)} & {1, 5}
    everything = SamplingParams(min_tokens=3, end_token_ids=tuple(range(6)))
    assert draw(LOGITS, everything, 0, (), 0).token_id == 1, "where nothing else is left it may"


def test_a_draw_with_nothing_forbidden_is_the_draw_without_a_mask():
    """The same hash decides, over the same order."""
    logits, all_of_them = random_logits(5), Grammar(GrammarKind.LARK, "x")
    for temperature in (0.0, 1.0):
        plain = SamplingParams(temperature=temperature, top_p=0.9, seed=4)
        masked = replace(plain, grammar=all_of_them)
        for position in range(20):
            drawn = draw(logits, masked, position, (0,) * position, 0, masks=lambda *_: torch.ones(500).bool())
            assert drawn == draw(logits, plain, position, (), 0)


def test_a_grammar_forbids_and_its_word_is_the_last():
    grammar = Grammar(GrammarKind.LARK, "x")
    asked: list[tuple[int, ...]] = []

    def masks(of: Grammar, answer: Sequence[int]) -> torch.Tensor:
        assert of is grammar
        asked.append(tuple(answer))
        return torch.tensor([True, False, False, True, True, False])

    params = SamplingParams(grammar=grammar)
    assert draw(LOGITS, params, 4, (9, 8, 7, 6), 2, masks=masks).token_id == 0 and asked == [(7, 6)]
    biased = SamplingParams(grammar=grammar, logit_bias=((1, 100.0), (4, 1.0)))
    assert draw(LOGITS, biased, 4, (9, 8, 7, 6), 2, masks=masks).token_id == 4
    early = SamplingParams(grammar=grammar, min_tokens=9, end_token_ids=(0,))
    assert draw(LOGITS, early, 4, (9, 8, 7, 6), 2, masks=masks).token_id == 4
    only = SamplingParams(grammar=grammar, min_tokens=9, end_token_ids=(0, 3, 4))
    assert draw(LOGITS, only, 4, (9, 8, 7, 6), 2, masks=masks).token_id == 0, "the grammar is at its end"
    with pytest.raises(BadGrammar, match="no tokenizer"):
        draw(LOGITS, params, 0, (), 0)
