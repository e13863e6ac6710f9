"""Norm, gate, quantisation and rotation on a device against the definition, byte for byte."""

from __future__ import annotations

import pytest
import torch

from kernels import reference
from kernels.types import PAGE_SIZE, Quantized
from tests.support.triton_device import device_or_skip, same_bits, there

DEVICE = device_or_skip()

from kernels import triton_rows  # noqa: E402


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same(a: Quantized, b: Quantized) -> bool:
    return same_bits(a.values, b.values) and same_bits(a.scale, b.scale)


@pytest.mark.parametrize(
    ("rows", "width", "group"),
    [(1, 1, 64), (2, 63, 64), (3, 64, 64), (2, 65, 32), (9, 200, 64), (2, 1100, 64), (1, 90, 48)],
)
def test_every_width_is_quantised_as_the_definition_says(rows: int, width: int, group: int):
    x = random(rows, width, seed=width) * torch.logspace(-9, 9, width)
    assert same(triton_rows.quantize(there(x, DEVICE), group), reference.quantize(x, group))
    weight = random(width, seed=1)
    expected = reference.norm_quantize(x, weight, 1e-5, group)
    assert same(triton_rows.norm_quantize(there(x, DEVICE), there(weight, DEVICE), 1e-5, group), expected)
    gate_up = random(rows, 2 * width, seed=2) * 30
    assert same(triton_rows.gated_quantize(there(gate_up, DEVICE), group), reference.gated_quantize(gate_up, group))


def test_zeros_subnormals_and_huge_values_are_quantised_as_the_definition_says():
    x = torch.tensor([[0.0] * 63 + [-0.0], [2.0**-149] * 64, [2.0**-126] * 64, [3.4e38, -1.0] * 32, [2.0**-100] * 64])
    assert same(triton_rows.quantize(there(x, DEVICE), 64), reference.quantize(x, 64))


def test_halfway_between_two_integers_every_rounding_counts():
    amax = random(64, 1, seed=3).abs() + 1
    x = (torch.arange(64) - 31.5) * (amax / 127)
    x[:, :1] = amax
    assert same(triton_rows.quantize(there(x, DEVICE), 64), reference.quantize(x, 64))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_number_shows_in_its_scale_and_in_no_other(poison: float):
    x = random(3, 128, seed=4)
    x[1, 70] = poison
    found, expected = triton_rows.quantize(there(x, DEVICE), 64), reference.quantize(x, 64)
    assert same_bits(found.scale, expected.scale)
    assert torch.isfinite(found.scale.cpu()).tolist() == [[True, True], [True, False], [True, True]]
    assert same_bits(found.values[::2], expected.values[::2])


@pytest.mark.parametrize("shape", [(3, 40), (2, 3, 24), (1, 1500)])
def test_the_norm_is_the_definitions_also_over_heads(shape: tuple[int, ...]):
    x, weight = random(*shape, seed=5) * 10, random(shape[-1], seed=6)
    found = triton_rows.norm(there(x, DEVICE), there(weight, DEVICE), 1e-6)
    assert same_bits(found, reference.norm(x, weight, 1e-6))


@pytest.mark.parametrize(("heads", "head_dim"), [(1, 2), (3, 24), (2, 64), (1, 80)])
def test_the_rotation_is_the_definitions(heads: int, head_dim: int):
    x, cos, sin = random(3, heads, head_dim), random(3, head_dim // 2, seed=1), random(3, head_dim // 2, seed=2)
    found = triton_rows.rope(there(x, DEVICE), there(cos, DEVICE), there(sin, DEVICE))
    assert same_bits(found, reference.rope(x, cos, sin))


def test_a_part_of_a_wider_tensor_is_read_where_it_is():
    x, cos, sin = random(3, 5, 24), random(3, 12, seed=1), random(3, 12, seed=2)
    found = triton_rows.rope(there(x, DEVICE)[:, 2:4], there(cos, DEVICE), there(sin, DEVICE))
    assert same_bits(found, reference.rope(x[:, 2:4], cos, sin))


@pytest.mark.parametrize("normed", [True, False])
def test_heads_is_norm_rope_and_writing_in_one(normed: bool):
    heads, kv_heads, head_dim, rows = 4, 2, 24, 3
    qkv = random(rows, (heads + 2 * kv_heads) * head_dim, seed=7)
    cos, sin = random(rows, head_dim // 2, seed=8), random(rows, head_dim // 2, seed=9)
    norms = (random(head_dim, seed=10), random(head_dim, seed=11)) if normed else None
    slots = torch.tensor([5, PAGE_SIZE + 31, 2 * PAGE_SIZE], dtype=torch.int32)
    k_pages, v_pages = torch.zeros(2, 3, kv_heads, PAGE_SIZE, head_dim, device=DEVICE).half()
    found = triton_rows.heads(
        *there((qkv, heads, head_dim, norms, 1e-5, cos, sin, slots), DEVICE), k_pages, v_pages
    )  # fmt: skip
    q, k, v = qkv.view(rows, -1, head_dim).split([heads, kv_heads, kv_heads], 1)
    if norms is not None:
        q, k = reference.norm(q, norms[0], 1e-5), reference.norm(k, norms[1], 1e-5)
    assert same_bits(found, reference.rope(q, cos, sin))
    page, offset = slots.long() // PAGE_SIZE, slots.long() % PAGE_SIZE
    assert same_bits(k_pages.cpu()[page, :, offset], reference.rope(k, cos, sin).half())
    assert same_bits(v_pages.cpu()[page, :, offset], v.half())
    assert int(v_pages.count_nonzero()) == v.numel()
