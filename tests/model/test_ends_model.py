"""The Ends without a Block, held against those of a SpanModel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kernels.types import SeatRows
from model.config import read_config
from model.ends_model import EndsModel, open_ends
from model.sampler import Drawn, draw
from model.source import DEFAULT_MODEL, DEFAULT_MODEL_NAME, open_source
from model.span_model import SpanModel
from swarm.errors import BadNumbers, BadRequest, ModelNotFound, UsageError
from swarm.peerinfo import ModelRef
from swarm.profile import Profile
from swarm.sampling import SamplingParams
from tests.support import tiny
from tests.support.checkpoints import make_variant
from tests.support.panel_kernels import fake_native

PROMPT = (5, 17, 99, 3, 64, 8, 8, 31, 100, 42)
GREEDY = SamplingParams(logprobs=3)
CHANCE = SamplingParams(temperature=0.9, top_p=0.95, seed=7, repetition_penalty=1.2, logprobs=1)


def own_ends(directory: Path, profile: Profile, cache: Path | None = None) -> EndsModel:
    return EndsModel.load(open_source(directory), read_config(directory), profile, cache)


def span_model(directory: Path, profile: Profile) -> SpanModel:
    config = read_config(directory)
    return SpanModel.load(open_source(directory), config, config.span, profile, 4)


def generate(model: SpanModel, ends: EndsModel | None, bf16: bool, params: SamplingParams, count: int) -> list[Drawn]:
    """Ten tokens of prompt and ``count`` drawn ones. ``ends`` None: the model's own."""
    known, drawn, position = list(PROMPT), list[Drawn](), 0
    for _ in range(count):
        ids = known[position:]
        x = (model if ends is None else ends).embed(ids)
        x = x.bfloat16().float() if bf16 and ends is not None else x  # as it travels
        y = model.run(model.span, x, [SeatRows((0, 1), position, len(ids))], [bf16])[-1:]
        position = len(known)
        if ends is None:
            one = draw(model.logits(y)[0], params, position, known, len(PROMPT), model.top_k)
        else:
            (one,) = ends.draw(y, params, position, known, len(PROMPT))
        drawn.append(one)
        known.append(one.token_id)
    return drawn


@pytest.mark.parametrize("params", [GREEDY, CHANCE], ids=["greedy", "chance"])
@pytest.mark.parametrize("bf16", [False, True], ids=["f32-wire", "bf16-wire"])
@pytest.mark.parametrize("profile", ["c8", "f32"])
@pytest.mark.parametrize("variant", ["llama", "llama-tied"])
def test_tokens_and_logprobs_are_those_of_a_peers_own_ends(
    tmp_path: Path, variant: str, profile: Profile, bf16: bool, params: SamplingParams
):
    directory = make_variant(tmp_path, variant)
    model = span_model(directory, profile)
    expected = generate(model, None, bf16, params, 12)
    assert generate(model, own_ends(directory, profile), bf16, params, 12) == expected
    assert len({one.token_id for one in expected}) > 2


def test_guesses_change_no_bit_and_stop_where_they_are_wrong():
    model, ends = tiny.span_model(), own_ends(tiny.directory(), "c8")
    alone = generate(model, None, False, CHANCE, 5)
    ids = [one.token_id for one in alone]

    def guess(drafts: list[int]) -> list[Drawn]:
        known = [*PROMPT, *drafts]
        y = model.run(model.span, ends.embed(known), [SeatRows((0, 1), 0, len(known))])[len(PROMPT) - 1 :]
        return ends.draw(y, CHANCE, len(PROMPT), PROMPT, len(PROMPT), drafts)

    assert guess(ids[:4]) == alone
    assert guess([*ids[:2], (ids[2] + 1) % 128, ids[3]]) == alone[:3]
    assert guess([(ids[0] + 1) % 128]) == alone[:1]


def test_what_kernels_there_are_compute_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SHOAL_ISA", raising=False)
    with fake_native() as native:
        ends = EndsModel.load(open_source(tiny.directory()), read_config(tiny.directory()), "c8", threads=3)
        plain = EndsModel.load(open_source(tiny.directory()), read_config(tiny.directory()), "f32")
    assert native.opened == [("avx2", 3)]
    model = tiny.span_model()
    assert generate(model, ends, False, GREEDY, 4) == generate(model, None, False, GREEDY, 4)
    assert not torch.equal(plain.embed([1]), ends.embed([1]))
    monkeypatch.setenv("SHOAL_ISA", "reference")  # which wants rows where native kernels want panels
    slow = own_ends(tiny.directory(), "c8")
    assert generate(model, slow, False, GREEDY, 4) == generate(model, ends, False, GREEDY, 4)


def test_rows_of_another_shape_and_tokens_outside_the_vocabulary_are_refused():
    ends = own_ends(tiny.directory(), "c8")
    with pytest.raises(BadRequest, match=r"\[2, 64\] came, expected \[1, 64\]"):
        ends.draw(torch.zeros(2, 64), GREEDY, 10, PROMPT, 10)
    with pytest.raises(BadRequest, match=r"\[2, 65\] came, expected \[2, 64\]"):
        ends.draw(torch.zeros(2, 65), GREEDY, 10, PROMPT, 10, [1])
    with pytest.raises(BadRequest, match="128"):
        ends.embed([128])
    with pytest.raises(BadNumbers):
        ends.draw(torch.full((1, 64), torch.nan), GREEDY, 10, PROMPT, 10)


def test_another_model_than_the_swarms_is_refused_with_both(tmp_path: Path):
    other = make_variant(tmp_path / "other", "llama", seed=5)
    with pytest.raises(UsageError) as refused:
        open_ends(str(other), None, tiny.ref(), "c8")
    said = str(refused.value)
    assert "other is " in said and f"serves {tiny.ref().name} ({tiny.ref().fingerprint})" in said


def test_a_profile_that_does_not_exist_is_refused_and_an_approximate_one_is_exact_here():
    with pytest.raises(UsageError, match="profile 'c4'"):
        open_ends(str(tiny.directory()), None, tiny.ref(), "c4")
    ends = open_ends(str(tiny.directory()), None, tiny.ref(), "c8-approx")
    assert torch.equal(ends.embed([3, 4]), tiny.span_model().embed([3, 4]))


def test_without_a_name_it_is_what_the_swarm_calls_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[object] = []

    def opened(model: object, *rest: object) -> None:
        asked.append(model)
        raise ModelNotFound("not there")

    monkeypatch.setattr("model.ends_model.open_source", opened)
    for name in (DEFAULT_MODEL_NAME, "org/name", "org/name@v1"):
        with pytest.raises(ModelNotFound):
            open_ends(None, None, ModelRef(name, "0" * 32, 4), "c8")
    assert asked == [DEFAULT_MODEL, "org/name", "org/name@v1"]
    for name in ("tiny", "../etc", "/etc/name", "a/b/c", "~/name"):
        with pytest.raises(UsageError, match="no Hub id"):
            open_ends(None, None, ModelRef(name, "0" * 32, 4), "c8")
