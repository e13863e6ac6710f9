"""Tables against transformers' own, against binary64, and against themselves whatever way positions are asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import ModelConfig, read_config
from model.rope import RopeTable, cos_sin, frequencies
from tests.support.checkpoints import VARIANTS, make_variant

ROPES = ["llama", "llama-linear", "llama-llama3", "llama-yarn", "qwen2-yarn"]


def config_of(directory: Path, variant: str) -> ModelConfig:
    return read_config(make_variant(directory, variant), variant)


@pytest.mark.parametrize("variant", ROPES)
def test_frequencies_and_scaling_are_transformers(tmp_path: Path, variant: str):
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = config_of(tmp_path, variant)
    theirs = AutoConfig.from_pretrained(tmp_path)
    ours = torch.tensor(frequencies(config.rope, config.head_dim, 0))
    if config.rope.kind == "default":
        expected, scale = 10000.0 ** (-torch.arange(0, config.head_dim, 2) / config.head_dim), 1.0
    else:
        expected, scale = ROPE_INIT_FUNCTIONS[config.rope.kind](theirs, torch.device("cpu"))
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)
    cos, sin = RopeTable(config).rows([0, 1])
    assert cos[0].tolist() == pytest.approx([scale] * (config.head_dim // 2), rel=1e-6) and not sin[0].any()


def test_dynamic_frequencies_are_transformers_for_the_text_up_to_each_position(tmp_path: Path):
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = config_of(tmp_path, "llama-dynamic")
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert VARIANTS["llama-dynamic"][1]["max_position_embeddings"] == config.rope.original_max_positions == 64
    for position in (0, 63, 64, 100, 200):
        expected, _ = ROPE_INIT_FUNCTIONS["dynamic"](theirs, torch.device("cpu"), seq_len=position + 1)
        angles = torch.tensor(float(position)) * expected
        cos, sin = RopeTable(config).rows([position])
        torch.testing.assert_close(cos[0], angles.cos(), rtol=0, atol=3e-5)
        torch.testing.assert_close(sin[0], angles.sin(), rtol=0, atol=3e-5)


@pytest.mark.parametrize("variant", ["llama", "llama-dynamic", "llama-yarn"])
def test_a_position_has_one_row_whatever_it_is_asked_with(tmp_path: Path, variant: str):
    table = RopeTable(config_of(tmp_path, variant))
    positions = [0, 5, 63, 64, 65, 150, 5]
    together = table.rows(positions)
    for index, position in enumerate(positions):
        for whole, alone in zip(together, table.rows(torch.tensor([position])), strict=True):
            assert torch.equal(whole[index].view(torch.int32), alone[0].view(torch.int32))


def test_cosine_and_sine_are_right_to_binary64_over_the_whole_range():
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(20000, generator=generator) * 2.0 ** (torch.rand(20000, generator=generator) * 40 - 12)
    x = torch.cat([x, torch.arange(1, 2000).float() * (np.pi / 4), torch.zeros(1)]).double()
    cos, sin = cos_sin(x)
    assert (cos - torch.from_numpy(np.cos(x.numpy()))).abs().max() < 1e-14
    assert (sin - torch.from_numpy(np.sin(x.numpy()))).abs().max() < 1e-14


def test_a_table_is_the_same_on_every_machine(tmp_path: Path):
    """Its bits, written down."""
    digests = {}
    for variant in ("llama", "llama-llama3", "llama-yarn", "llama-dynamic"):
        table = RopeTable(config_of(tmp_path / variant, variant))
        numbers = torch.cat(table.rows([0, 1, 77, 1000, 131071]))
        digests[variant] = hashlib.sha256(numbers.numpy().astype("<f4").tobytes()).hexdigest()[:16]
    assert digests == {
        "llama": "251e805bd2cf9926",
        "llama-llama3": "9428e214eb5976bf",
        "llama-yarn": "794f84f2bad399e0",
        "llama-dynamic": "4c1ee2a22ce43761",
    }
