from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from benchmarks.kit.checkpoint import random_checkpoint, tokenizer_json
from benchmarks.kit.shapes import LLAMA_1B, SMALL
from kernels.types import SeatRows
from model.config import read_config
from model.source import open_source
from model.span_model import SpanModel


def test_the_checkpoint_says_the_same_as_the_shape(tmp_path: Path):
    written = read_config(random_checkpoint(SMALL, tmp_path), SMALL.name)
    config = SMALL.model_config()
    assert config == type(written)(**{**vars_of(written), "eos_token_ids": config.eos_token_ids})
    assert sum(outputs * inputs for outputs, inputs in SMALL.matrices.values()) == SMALL.block_weights


def vars_of(config: object) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}  # type: ignore[attr-defined]


def test_it_is_made_once_and_the_same_for_the_same_seed(tmp_path: Path):
    first = random_checkpoint(SMALL, tmp_path / "a")
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert random_checkpoint(SMALL, tmp_path / "a") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    again = random_checkpoint(SMALL, tmp_path / "b")
    other = random_checkpoint(SMALL, tmp_path / "b", seed=1)
    assert (again / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    assert (other / "model.safetensors").read_bytes() != (first / "model.safetensors").read_bytes()


def test_a_checkpoint_whose_making_fails_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        random_checkpoint(SMALL, tmp_path, advance=interrupt)
    assert not list(tmp_path.iterdir())


def interrupt() -> None:
    raise KeyboardInterrupt


def test_weights_are_bf16_and_the_model_computes_finite_states_of_ordinary_size(tmp_path: Path):
    directory = random_checkpoint(SMALL, tmp_path)
    with safe_open(directory / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    source = open_source(str(directory))
    model = SpanModel.load(source, read_config(directory), SMALL.model_config().span, "f32", 1)
    x = model.run(model.span, model.embed(range(300, 332)), [SeatRows((0,), 0, 32)])
    assert 0.5 < x.std() < 4.0
    assert 0.5 < model.logits(x).std() < 8.0


def test_the_tokenizer_reads_every_text_and_writes_every_id():
    tokenizer = Tokenizer.from_str(tokenizer_json(LLAMA_1B.vocab))
    assert tokenizer.get_vocab_size() == LLAMA_1B.vocab
    for text in ("def f(x):\n\treturn 'ä€😀'", "\x00"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.decode([LLAMA_1B.vocab - 1])
