from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import ModelConfig, read_config
from model.parameters import BlockWeights, tensors
from model.quantize import (
    LEAST_EXPONENT,
    MOST_EXPONENT,
    dequantize,
    float_block,
    quantize,
    quantize_block,
    quantize_ends,
)
from model.source import open_source
from swarm.errors import CorruptCheckpoint
from tests.support.checkpoints import make_variant


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    rows=st.integers(1, 4),
    width=st.integers(1, 100),
    group=st.sampled_from([16, 32, 64]),
    scale=st.integers(-35, 18),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_every_weight_is_within_half_a_step(rows: int, width: int, group: int, scale: int, seed: int):
    weight = random(rows, width, seed=seed) * 2.0**scale
    linear = quantize(weight, group=group)
    assert linear.weight.abs().max() <= 127 and not linear.weight[:, width:].any()
    steps = linear.scale.float().repeat_interleave(group, 1)[:, :width]
    assert ((dequantize(linear) - weight).abs() <= steps * 0.501 + 2.0**-25).all()


def test_a_weights_scale_is_its_groups_amax_over_127_in_fp16():
    weight = random(5, 128)
    expected = (weight.view(5, 2, 64).abs().amax(-1) / 127).half()
    linear = quantize(weight, group=64)
    assert torch.equal(linear.scale, expected)
    assert torch.equal(linear.weight, (weight / expected.float().repeat_interleave(64, 1)).round().to(torch.int8))


def test_zeros_stay_zeros_and_tiny_groups_are_not_lost():
    weight = torch.zeros(2, 64)
    weight[1] = 1e-6 * torch.linspace(-1, 1, 64)
    linear = quantize(weight, group=64)
    assert not linear.weight[0].any() and linear.scale[0] == 0
    assert linear.scale[1] > 0 and (dequantize(linear)[1] - weight[1]).abs().max() <= 2.0**-25


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e9])
def test_weights_that_int8_cannot_stand_for_are_named(poison: float):
    weight = torch.ones(3, 64)
    weight[2, 5] = poison
    with pytest.raises(CorruptCheckpoint, match="'mlp"):
        quantize(weight, name="mlp.down_proj.weight")


def test_the_dtype_of_a_checkpoint_does_not_matter_where_the_numbers_are_the_same():
    weight = random(8, 64).bfloat16()
    a, b = quantize(weight), quantize(weight.float())
    assert torch.equal(a.weight, b.weight) and torch.equal(a.scale, b.scale)


class Checkpoint:
    """A random Block of any family, its reads counted."""

    def __init__(self, directory: Path, variant: str):
        source = open_source(str(make_variant(directory, variant)), None, None)
        self.config: ModelConfig = read_config(source.directory, "random")
        prefix = "model.layers.1."
        names = [name for name in source.tensors if name.startswith(prefix) or "layers" not in name]
        self.tensors = {name.removeprefix(prefix): source.read(name).clone() for name in names}
        self.reads: list[str] = []

    def read(self, name: str) -> torch.Tensor:
        self.reads.append(name)
        return self.tensors[name]

    def block(self, **options: bool) -> BlockWeights:
        return quantize_block(self.read, self.config, 32, **options)


VARIANTS = ["llama", "llama-biases", "qwen2", "qwen3-biases", "llama-odd-sizes"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_block_is_its_tensors_side_by_side_and_each_is_read_once(tmp_path: Path, variant: str):
    checkpoint = Checkpoint(tmp_path, variant)
    block = checkpoint.block()
    assert len(checkpoint.reads) == len(set(checkpoint.reads))
    exact = float_block(checkpoint.read, checkpoint.config)
    for name in ("qkv", "o", "gate_up", "down"):
        ours, theirs = getattr(block, name), getattr(exact, name)
        torch.testing.assert_close(dequantize(ours), theirs.weight, rtol=0, atol=theirs.weight.abs().max() / 120)
        assert (ours.bias is None) == (theirs.bias is None)
        if ours.bias is not None:
            assert torch.equal(ours.bias, theirs.bias)
    assert torch.equal(block.norm1, exact.norm1) and torch.equal(block.norm2, exact.norm2)
    assert (block.q_norm is None) == (exact.q_norm is None)


def far_columns(checkpoint: Checkpoint) -> None:
    """Makes some columns of every matrix far smaller, one far larger, and whatever feeds them the opposite."""
    config = checkpoint.config
    shared = config.num_heads // config.num_kv_heads

    def move(channel: int, factor: float, producers: list[str], consumers: list[str], spread: list[int]) -> None:
        for name in producers:
            checkpoint.tensors[name][channel] *= factor
        for name in consumers:
            checkpoint.tensors[name][:, spread] /= factor

    for channel, factor in ((3, 64.0), (10, 32.0), (11, 1 / 16)):
        qkv = [f"self_attn.{n}_proj.weight" for n in "qkv"]
        move(channel, factor, ["input_layernorm.weight"], qkv, [channel])
        gate_up = ["mlp.gate_proj.weight", "mlp.up_proj.weight"]
        move(channel, factor, ["post_attention_layernorm.weight"], gate_up, [channel])
        up = ["mlp.up_proj.weight"] + (["mlp.up_proj.bias"] if config.mlp_bias else [])
        move(channel, factor, up, ["mlp.down_proj.weight"], [channel])
        v = ["self_attn.v_proj.weight"] + (["self_attn.v_proj.bias"] if config.qkv_bias else [])
        head, inside = divmod(channel, config.head_dim)
        columns = [(head * shared + i) * config.head_dim + inside for i in range(shared)]
        move(channel, factor, v, ["self_attn.o_proj.weight"], columns)


@pytest.mark.parametrize("variant", ["llama-biases", "qwen2", "qwen3"])
def test_balance_undoes_any_rescaling_by_powers_of_two_to_the_last_bit(tmp_path: Path, variant: str):
    checkpoint = Checkpoint(tmp_path, variant)
    before = list(tensors(checkpoint.block()))
    far_columns(checkpoint)
    for ours, theirs in zip(tensors(checkpoint.block()), before, strict=True):
        assert torch.equal(ours, theirs)
    unbalanced = list(tensors(checkpoint.block(balance=False)))
    assert any(not torch.equal(ours, theirs) for ours, theirs in zip(unbalanced, before, strict=True))


def test_balance_has_limits(tmp_path: Path):
    checkpoint = Checkpoint(tmp_path, "llama")
    plain = checkpoint.block().norm1
    for name in "qkv":
        checkpoint.tensors[f"self_attn.{name}_proj.weight"][:, 0] *= 2.0**-20
        checkpoint.tensors[f"self_attn.{name}_proj.weight"][:, 1] *= 2.0**20
        checkpoint.tensors[f"self_attn.{name}_proj.weight"][:, 2] = 0.0
    ratio = plain / checkpoint.block().norm1
    assert ratio[:3].tolist() == [2.0**MOST_EXPONENT, 2.0**LEAST_EXPONENT, 1.0]
    assert torch.equal(ratio[3:], torch.ones(len(ratio) - 3))


def test_a_tied_head_is_the_embedding(tmp_path: Path):
    checkpoint = Checkpoint(tmp_path, "llama-tied")
    both = quantize_ends(checkpoint.read, checkpoint.config, embedding=True, head=True)
    assert both.head is both.embedding and both.norm is not None
    only = quantize_ends(checkpoint.read, checkpoint.config, embedding=False, head=True)
    assert only.embedding is None and only.head is not None and both.head is not None
    assert torch.equal(only.head.weight, both.head.weight)


def test_nan_in_a_norm_or_a_bias_is_named(tmp_path: Path):
    checkpoint = Checkpoint(tmp_path, "qwen2")
    checkpoint.tensors["self_attn.v_proj.bias"][3] = float("nan")
    with pytest.raises(CorruptCheckpoint, match=r"v_proj\.bias"):
        checkpoint.block()
