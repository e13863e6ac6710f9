"""The real thing to be equal to: transformers' own ``generate`` on tiny random models in FP32."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from client.beams import BeamParams, BeamSearch, Finished
from swarm.errors import UsageError
from tests.support.checkpoints import make_checkpoint

Following = Callable[[tuple[int, ...]], list[float]]
"""The answer so far → the logprob of every next token."""

VOCAB = 24
PROMPT = [3, 17, 5, 11]


@pytest.fixture(scope="module", params=[(0, 1.0), (1, 0.4), (2, 0.2)], ids=["sure", "unsure", "torn"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    directory: Path = tmp_path_factory.mktemp("beams")
    seed, sharpness = request.param
    make_checkpoint(directory, seed=seed, vocab_size=VOCAB, num_hidden_layers=1, hidden_size=32)
    found = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager").eval()
    with torch.no_grad():
        found.lm_head.weight.mul_(sharpness)
    return found


@cache  # searches meet the same sequences again and again
def logprobs_of(model: Any) -> Following:
    @cache
    @torch.inference_mode()
    def following(token_ids: tuple[int, ...]) -> list[float]:
        logits = model(torch.tensor([PROMPT + list(token_ids)])).logits[0, -1].float()
        return logits.log_softmax(-1).tolist()

    return following


def search(following: Following, params: BeamParams, max_new_tokens: int, stops: Sequence[int]) -> BeamSearch:
    beams = BeamSearch(params, max_new_tokens, stops)
    while not beams.over:
        before, tops = beams.live, list[list[tuple[int, float]]]()
        for beam in before:
            every = following(beam.token_ids)
            order = sorted(range(len(every)), key=lambda token_id: -every[token_id])
            tops.append([(token_id, every[token_id]) for token_id in order[: beams.width]])
        branches = beams.step(tops)
        assert beams.over == (not branches)
        for beam, branch in zip(beams.live, branches, strict=not beams.over):
            assert beam.token_ids == (*before[branch.parent].token_ids, branch.token_id)
    return beams


def expected(
    model: Any, params: BeamParams, max_new_tokens: int, stops: Sequence[int]
) -> list[tuple[list[int], float]]:
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, num_beams=params.num_beams, use_cache=True,
        length_penalty=params.length_penalty, early_stopping=params.early_stopping,
        num_return_sequences=params.num_return_sequences, eos_token_id=list(stops) or None, pad_token_id=VOCAB,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        found = model.generate(
            torch.tensor([PROMPT]), attention_mask=torch.ones(1, len(PROMPT)), generation_config=config
        )
    answers = [[t for t in row[len(PROMPT) :] if t not in (VOCAB, -1)] for row in found.sequences.tolist()]
    return list(zip(answers, found.sequences_scores.tolist(), strict=True))


def same(ours: Sequence[Finished], theirs: Sequence[tuple[list[int], float]]) -> None:
    assert [list(finished.token_ids) for finished in ours] == [token_ids for token_ids, _ in theirs]
    assert [finished.score for finished in ours] == pytest.approx([score for _, score in theirs], abs=1e-4)


PENALTIES = (1.0, 0.0, 2.0, -1.0)


@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize("stops", [(), (7,), (2, 9, 20)], ids=len)
def test_sequences_and_scores_are_those_of_transformers(model: Any, stops: tuple[int, ...], early: Any):
    following = logprobs_of(model)
    stopped = 0
    for num_beams, penalty in itertools.product((2, 5), PENALTIES):
        params = BeamParams(num_beams, penalty, early, num_return_sequences=num_beams)
        ours = search(following, params, 12, stops).ranking()
        same(ours, expected(model, params, 12, stops))
        stopped += sum(len(finished.token_ids) < 12 for finished in ours)
    assert bool(stopped) == bool(stops), "stop ids were to end some sequences, and nothing else"


def test_early_stopping_and_length_penalty_make_a_difference(model: Any):
    following, outcomes = logprobs_of(model), set[tuple[tuple[int, ...], ...]]()
    for early, penalty in itertools.product((False, True, "never"), PENALTIES):
        params = BeamParams(4, penalty, early, num_return_sequences=4)
        outcomes.add(tuple(f.token_ids for f in search(following, params, 12, (2, 9, 20)).ranking()))
    assert len(outcomes) >= 3


def test_as_many_as_are_wanted_come_back_best_first(model: Any):
    following = logprobs_of(model)
    every = search(following, BeamParams(4, num_return_sequences=4), 8, (7,)).ranking()
    assert search(following, BeamParams(4, num_return_sequences=2), 8, (7,)).ranking() == every[:2]
    assert [f.score for f in every] == sorted((f.score for f in every), reverse=True)
    assert all(math.isclose(f.score, f.logprob / len(f.token_ids)) for f in every)


def test_one_beam_is_greedy(model: Any):
    following = logprobs_of(model)
    (answer,) = search(following, BeamParams(1), 8, ()).ranking()
    greedy: tuple[int, ...] = ()
    for _ in range(8):
        every = following(greedy)
        greedy += (every.index(max(every)),)
    assert answer.token_ids == greedy


def test_a_beam_that_stops_below_the_first_num_beams_is_forgotten():
    """Token 0 stops. It is third best of two beams' first candidates, so it neither ends nor goes on."""
    beams = BeamSearch(BeamParams(2), 5, (0,))
    branches = beams.step([[(1, -0.5), (2, -1.0), (0, -1.5), (3, -4.0)]])
    assert [branch.token_id for branch in branches] == [1, 2] and not beams.ranking()
    branches = beams.step([[(0, -0.1), (4, -1.0)], [(5, -0.7), (6, -3.0)]])
    assert [(b.parent, b.token_id) for b in branches] == [(0, 4), (1, 5)]
    assert [f.token_ids for f in beams.ranking()] == [(1, 0)]


def test_only_the_best_num_beams_of_the_finished_are_what_has_to_be_beaten():
    beams = BeamSearch(BeamParams(1, early_stopping="never"), 10, (0,))
    beams.step([[(1, -0.5), (0, -1.0)]])
    beams.step([[(0, -0.1), (2, -0.11)]])
    assert beams.ranking()[0].score == pytest.approx(-0.3) and not beams.over  # (1, 2): -0.61 of at most 10 tokens
    beams.step([[(0, -1.0), (3, -2.6)]])
    assert beams.over and beams.ranking()[0].token_ids == (1, 0)  # -3.21 / 10 is less than -0.3


def test_where_length_is_no_help_never_judges_by_the_present_length():
    beams = BeamSearch(BeamParams(2, length_penalty=-1.0, early_stopping="never"), 10, (0,))
    beams.step([[(0, -1.0), (5, -1.1), (6, -1.2), (7, -9.0)]])
    beams.step([[(1, -0.9), (0, -1.0), (2, -5.0), (3, -6.0)], [(1, -8.0), (2, -9.0), (3, -10.0), (4, -11.0)]])
    assert [f.score for f in beams.ranking()] == pytest.approx([-1.0]) and not beams.over  # -2.0 · 2 beats -2.1 · 2


def test_a_vocabulary_smaller_than_the_beams_still_ends():
    beams = search(lambda _: [-0.5, -1.0], BeamParams(8, num_return_sequences=8), 2, ())
    assert len(beams.ranking()) == 4 and beams.over
    assert search(lambda _: [0.0], BeamParams(2), 9, (0,)).ranking()[0].token_ids == (0,)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"num_beams": 2, "num_return_sequences": 3}, r"must lie in 1\.\.2 \(num_beams\), not 3"),
        ({"num_beams": 2, "length_penalty": math.nan}, "length_penalty"),
        ({"num_beams": 2, "early_stopping": "soon"}, "early_stopping must be"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: Any, says: str):
    with pytest.raises(UsageError, match=says):
        BeamParams(**options)


def test_more_logprobs_than_a_token_carries_are_not_asked_for():
    assert BeamSearch(BeamParams(32), 4).width == 64 and BeamSearch(BeamParams(16), 4, (1, 2, 3)).width == 64
    with pytest.raises(UsageError, match="33 beams with 0 stop ids need the 66 most likely"):
        BeamSearch(BeamParams(33), 4)
