"""The promise of profile c8 on small random models: no way of cutting, batching or threading changes a bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kernels.types import PAGE_SIZE, SeatRows
from model.config import ModelConfig, read_config
from model.source import open_source
from model.span_model import SpanModel
from model.weights import load_span
from swarm.errors import BadRequest, UsageError, WrongModel
from swarm.profile import Profile
from swarm.span import Span
from tests.support.checkpoints import make_variant
from tests.support.panel_kernels import PanelKernels

NUM_PAGES = 40
VARIANTS = ["llama", "qwen2-window", "qwen3-biases", "llama-dynamic", "llama-odd-sizes"]


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def model_of(directory: Path, variant: str, profile: Profile = "c8", span: Span | None = None) -> SpanModel:
    if not (directory / "config.json").exists():
        make_variant(directory, variant)
    source = open_source(str(directory), None, None)
    config = read_config(directory, variant)
    return SpanModel.load(source, config, span or config.span, profile, NUM_PAGES)


def panel_model_of(directory: Path, variant: str) -> tuple[SpanModel, PanelKernels]:
    """The model that ``model_of`` has made, computed by an implementation that wants panels."""
    source, config, twin = open_source(str(directory), None, None), read_config(directory, variant), PanelKernels()
    return SpanModel.load(source, config, config.span, "c8", NUM_PAGES, kernels=twin), twin


def tokens_of(config: ModelConfig, count: int, seed: int = 0) -> list[int]:
    return torch.randint(config.vocab_size, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def pages_from(first: int, tokens: int) -> tuple[int, ...]:
    return tuple(range(first, first + -(-tokens // PAGE_SIZE)))


def run(model: SpanModel, ids: list[int], chunk: int, first_page: int = 0, **options: list[bool]) -> torch.Tensor:
    """All hidden states of a text that comes in chunks."""
    pages, parts = pages_from(first_page, len(ids)), []
    for start in range(0, len(ids), chunk):
        piece = ids[start : start + chunk]
        parts.append(model.run(model.span, model.embed(piece), [SeatRows(pages, start, len(piece))], **options))
    return torch.cat(parts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_chunking_changes_no_bit(tmp_path: Path, variant: str):
    model = model_of(tmp_path, variant)
    ids = tokens_of(model.config, 75)
    whole = run(model, ids, 75)
    for chunk in (1, 7, 64):
        assert same_bits(run(model, ids, chunk, first_page=10), whole)
    assert torch.isfinite(whole).all() and torch.isfinite(model.logits(whole)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_seat_alone_equals_the_seat_among_strangers(tmp_path: Path, variant: str):
    model = model_of(tmp_path, variant)
    lengths, texts = [1, 40, 66, 3, 33], []
    for index, length in enumerate(lengths):
        texts.append(tokens_of(model.config, length + 1, seed=index))
    alone = [run(model, ids, len(ids)) for ids in texts]
    seats = [SeatRows(pages_from(8 * i, len(ids)), 0, len(ids) - 1) for i, ids in enumerate(texts)]
    prefill = model.run(model.span, torch.cat([model.embed(ids[:-1]) for ids in texts]), seats).split(lengths)
    steps = [SeatRows(seat.pages, seat.count, 1) for seat in seats]
    decode = model.run(model.span, model.embed([ids[-1] for ids in texts]), steps)
    for whole, first, last in zip(alone, prefill, decode, strict=True):
        assert same_bits(torch.cat([first, last[None]]), whole)
    assert same_bits(model.logits(decode), torch.cat([model.logits(whole[-1:]) for whole in alone]))


@pytest.mark.parametrize("variant", ["llama-biases", "llama-tied", "qwen3", "llama-odd-sizes"])
def test_an_implementation_that_wants_panels_gets_them_and_changes_no_bit(tmp_path: Path, variant: str):
    model = model_of(tmp_path, variant)
    packed, twin = panel_model_of(tmp_path, variant)
    ids = tokens_of(model.config, 40)
    assert same_bits(packed.logits(run(packed, ids, 40)), model.logits(run(model, ids, 40)))
    assert len({id(matrix) for matrix in twin.seen}) == 4 * 4 + (1 if model.config.tied else 2)
    assert packed.arithmetic == "panel-twin"


def test_weights_in_rows_are_packed_for_who_wants_panels(tmp_path: Path):
    model = model_of(tmp_path, "llama-tied")
    source, config = open_source(str(tmp_path), None, None), model.config
    packed = SpanModel(config, config.span, load_span(source, config, config.span), "c8", NUM_PAGES, PanelKernels())
    ids = tokens_of(config, 20)
    assert same_bits(packed.logits(run(packed, ids, 20)), model.logits(run(model, ids, 20)))


def test_profile_f32_is_torchs_whatever_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOAL_ISA", "none that exists")
    assert model_of(tmp_path, "llama", "f32").arithmetic == "torch"
    with pytest.raises(UsageError, match="none that exists"):
        model_of(tmp_path, "llama", "c8")


def test_where_a_route_cuts_changes_no_bit(tmp_path: Path):
    whole_model = model_of(tmp_path, "qwen3")
    ids = tokens_of(whole_model.config, 40)
    for bf16 in ([False], [True]):
        whole = run(whole_model, ids, 40, bf16_wire=bf16)
        first, last = model_of(tmp_path, "qwen3", span=Span(0, 3)), model_of(tmp_path, "qwen3", span=Span(1, 4))
        x = run(first, ids, 40, bf16_wire=bf16)
        seat = SeatRows((0, 1), 0, 40)
        assert same_bits(last.run(Span(3, 4), x, [seat], bf16), whole)
        x = first.run(Span(0, 1), first.embed(ids), [seat], bf16)
        x = last.run(Span(1, 3), x.bfloat16().float() if bf16[0] else x, [seat], bf16)
        assert same_bits(last.logits(last.run(Span(3, 4), x, [seat], bf16)), whole_model.logits(whole))


def test_bf16_is_each_seats_own_choice(tmp_path: Path):
    model = model_of(tmp_path, "llama")
    ids = tokens_of(model.config, 20)
    fine, coarse = run(model, ids, 20), run(model, ids, 20, bf16_wire=[True])
    assert not same_bits(fine, coarse) and same_bits(coarse, coarse.bfloat16().float())
    x, seats = model.embed([*ids, *ids]), [SeatRows((3,), 0, 20), SeatRows((7,), 0, 20)]
    both = model.run(model.span, x, seats, [False, True])
    rounded_before = model.run(model.span, x.bfloat16().float(), seats, [True, True])
    assert same_bits(rounded_before, torch.cat([coarse, coarse])), "the embedding's output is rounded too"
    assert same_bits(both, torch.cat([fine, coarse]))


def test_thread_counts_change_no_bit(tmp_path: Path):
    model = model_of(tmp_path, "llama")
    ids, before = tokens_of(model.config, 120), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(model.logits(run(model, ids, 120)))
    finally:
        torch.set_num_threads(before)
    assert same_bits(*results)


@pytest.mark.parametrize("profile", ["c8", "f32"])
def test_a_seat_with_nan_disturbs_nobody_else(tmp_path: Path, profile: Profile):
    model = model_of(tmp_path, "llama", profile)
    seats = [SeatRows((2,), 0, 5), SeatRows((5,), 0, 6), SeatRows((9,), 0, 1)]
    x = model.embed(tokens_of(model.config, 12))
    clean = model.run(model.span, x, seats)
    for poison in (float("nan"), float("inf"), 3e38):
        dirty = x.clone()
        dirty[7, 3] = poison
        y = model.run(model.span, dirty, seats)
        torch.testing.assert_close(
            y[[0, 1, 2, 3, 4, 11]], clean[[0, 1, 2, 3, 4, 11]], rtol=0, atol=0 if profile == "c8" else 1e-5
        )
        if poison != 3e38:
            assert not torch.isfinite(y[7]).all()


def test_what_a_page_held_before_does_not_matter(tmp_path: Path):
    model = model_of(tmp_path, "llama")
    ids = tokens_of(model.config, 40)
    clean = run(model, ids, 40)
    for block in model.span:
        model.kv.k(block).fill_(float("nan"))
        model.kv.v(block).fill_(float("inf"))
    assert same_bits(run(model, ids, 9), clean)


def test_the_input_is_left_as_it_is(tmp_path: Path):
    model = model_of(tmp_path, "llama")
    x = model.embed([1, 2, 3])
    before = x.clone()
    model.run(model.span, x, [SeatRows((0,), 0, 3)], [True])
    assert same_bits(x, before)


def test_what_a_span_does_not_hold_is_refused(tmp_path: Path):
    model = model_of(tmp_path, "llama", span=Span(1, 3))
    with pytest.raises(WrongModel, match="embedding"):
        model.embed([1])
    with pytest.raises(WrongModel, match="head"):
        model.logits(torch.zeros(1, 64))
    with pytest.raises(WrongModel, match="0:2"):
        model.run(Span(0, 2), torch.zeros(1, 64), [SeatRows((0,), 0, 1)])


@pytest.mark.parametrize("token_id", [-1, 128, 1 << 40])
def test_a_token_outside_the_vocabulary_is_refused(tmp_path: Path, token_id: int):
    with pytest.raises(BadRequest, match=str(token_id)):
        model_of(tmp_path, "llama").embed([3, token_id])


def test_sizes_are_told_truly(tmp_path: Path):
    model = model_of(tmp_path, "llama", span=Span(0, 3))
    assert (model.hidden_size, model.vocab_size) == (64, 128)
    assert model.kv_bytes_per_token * NUM_PAGES * PAGE_SIZE == model.kv.nbytes


def test_c8_stays_close_to_f32(tmp_path: Path):
    """Not a proof of quality (the perplexity benchmark is), but no option may be forgotten in one of the two."""
    for variant in ("llama-biases", "mistral-window", "qwen2-yarn", "qwen3", "llama-head-dim"):
        directory = tmp_path / variant
        ids = tokens_of(model_of(directory, variant).config, 60)
        exact, rounded = (
            model.logits(run(model, ids, 60))
            for model in (model_of(directory, variant, profile) for profile in ("f32", "c8"))
        )
        assert torch.nn.functional.cosine_similarity(exact, rounded).mean() > 0.995, variant


def test_weights_and_span_must_agree(tmp_path: Path):
    directory = make_variant(tmp_path, "llama")
    source, config = open_source(str(directory), None, None), read_config(directory, "llama")
    weights = load_span(source, config, Span(0, 2), "c8")
    with pytest.raises(AssertionError):
        SpanModel(config, Span(0, 3), weights, "c8", 1)
