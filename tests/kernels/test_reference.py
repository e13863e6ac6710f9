"""The definition against naive twins: one row, output and group at a time, in Python integers and numpy scalars."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import reference
from kernels.types import Linear, Quantized

f = np.float32


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_linear(out: int, width: int, group: int, seed: int = 0, bias: bool = False) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    groups = -(-width // group)
    weight = torch.randint(-127, 128, (out, groups * group), generator=generator, dtype=torch.int8)
    weight[:, width:] = 0
    scale = (torch.rand(out, groups, generator=generator) * 0.01).half()
    return Linear(weight, scale, torch.randn(out, generator=generator) if bias else None, width)


def naive_linear(x: Quantized, weight: Linear) -> torch.Tensor:
    q, w, group = x.values.tolist(), weight.weight.tolist(), weight.group
    y = np.zeros((len(q), weight.out_features), dtype=np.float32)
    for row in range(len(q)):
        for out in range(weight.out_features):
            total = f(0)
            for g in range(weight.groups):
                dot = sum(q[row][i] * w[out][i] for i in range(g * group, (g + 1) * group))
                assert abs(dot) < 2**24
                total = total + f(np.int32(dot)) * (f(weight.scale[out, g].item()) * f(x.scale[row, g].item()))
            y[row, out] = total if weight.bias is None else total + f(weight.bias[out].item())
    return torch.from_numpy(y)


rows_of_floats = st.integers(1, 70).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=width, max_size=width),
        min_size=1,
        max_size=4,
    )
)


@given(rows_of_floats, st.sampled_from([16, 32, 64]))
@settings(max_examples=80, deadline=None)
def test_quantised_activations_are_int8_and_within_half_a_step(rows: list[list[float]], group: int):
    x = torch.tensor(rows)
    quantized = reference.quantize(x, group)
    q, width = quantized.values.int(), x.shape[1]
    assert quantized.values.dtype == torch.int8
    assert q.abs().max() <= 127 and not q[:, width:].any()
    assert torch.isfinite(quantized.scale).all()
    scale = quantized.scale.double().repeat_interleave(group, 1)[:, :width]
    amax = scale * 127
    assert ((q[:, :width].double() * scale - x.double()).abs() <= scale * 0.5 + amax * 2.0**-22).all()


@given(rows_of_floats)
@settings(max_examples=40, deadline=None)
def test_a_row_is_quantised_the_same_alone(rows: list[list[float]]):
    x = torch.tensor(rows)
    together = reference.quantize(x, 32)
    for index in range(len(x)):
        alone = reference.quantize(x[index : index + 1], 32)
        assert torch.equal(alone.values[0], together.values[index])
        assert same_bits(alone.scale[0], together.scale[index])


def test_quantising_follows_its_definition_in_numpy():
    x = random(3000, 64, seed=5) * torch.logspace(-6, 6, 64)
    quantized = reference.quantize(x, 32)
    grouped = x.numpy().reshape(-1, 2, 32)
    amax = np.abs(grouped).max(-1, keepdims=True)
    expected = np.rint(grouped * (f(127) / amax)).astype(np.int8)
    assert np.array_equal(quantized.values.numpy().reshape(-1, 2, 32), expected)
    assert np.array_equal(quantized.scale.numpy(), (amax / f(127))[..., 0])


def test_halves_round_to_even():
    x = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]])
    quantized = reference.quantize(x, 8)
    assert quantized.values.tolist() == [[127, 0, 2, 2, 0, -2, -2, 126]] and quantized.scale.tolist() == [[1.0]]


def test_zeros_and_subnormals_quantise_to_zeros_with_the_least_scale():
    quantized = reference.quantize(torch.tensor([[0.0] * 31 + [-0.0], [2.0**-149] * 32, [2.0**-126] * 32]), 32)
    assert not quantized.values.any()
    assert quantized.scale.tolist() == [[float(f(2.0**-100) / f(127))]] * 3


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_number_marks_the_scale_of_its_group_and_nothing_else(poison: float):
    x = random(3, 96, seed=14)
    clean = reference.quantize(x, 32)
    x[1, 40] = poison
    dirty = reference.quantize(x, 32)
    assert not torch.isfinite(dirty.scale[1, 1])
    elsewhere = torch.ones(3, 3, dtype=torch.bool)
    elsewhere[1, 1] = False
    assert same_bits(dirty.scale[elsewhere], clean.scale[elsewhere])
    assert torch.equal(dirty.values.view(3, 3, 32)[elsewhere], clean.values.view(3, 3, 32)[elsewhere])


@given(
    rows=st.integers(1, 4),
    out=st.integers(1, 5),
    width=st.integers(1, 100),
    group=st.sampled_from([16, 32, 64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_linear_is_the_naive_loop_to_the_last_bit(rows: int, out: int, width: int, group: int, seed: int):
    weight = random_linear(out, width, group, seed, bias=seed % 2 == 0)
    x = reference.quantize(random(rows, width, seed=seed) * 3, group)
    assert same_bits(reference.linear(x, weight), naive_linear(x, weight))


def test_linear_is_exact_at_the_largest_integers():
    weight = Linear(torch.full((2, 128), 127, dtype=torch.int8), torch.ones(2, 1).half(), None, 128)
    x = Quantized(torch.full((1, 128), -127, dtype=torch.int8), torch.ones(1, 1))
    assert reference.linear(x, weight).tolist() == [[-128.0 * 127 * 127] * 2]


def test_groups_so_large_that_fp32_could_round_their_integers_are_a_mistake():
    for group, fits in ((1040, True), (1041, False)):
        x, weight = reference.quantize(random(1, group), group), random_linear(1, group, group)
        if fits:
            assert same_bits(reference.linear(x, weight), naive_linear(x, weight))
        else:
            with pytest.raises(AssertionError, match="1041"):
                reference.linear(x, weight)


def test_nothing_times_a_negative_number_is_positive_zero():
    weight = Linear(torch.ones(3, 64, dtype=torch.int8), torch.zeros(3, 2).half(), None, 64)
    y = reference.linear(reference.quantize(torch.full((2, 64), -1.0), 32), weight)
    assert same_bits(y, torch.zeros(2, 3))


def test_a_row_alone_equals_the_row_in_any_batch():
    weight, x = random_linear(96, 128, 64, bias=True), random(65, 128, seed=3)
    together = reference.linear(reference.quantize(x, 64), weight)
    for start, end in ((0, 1), (7, 8), (10, 33), (64, 65)):
        assert same_bits(reference.linear(reference.quantize(x[start:end], 64), weight), together[start:end])


@pytest.mark.parametrize(("kept", "products"), [(0, 1 << 22), (1 << 20, 64), (0, 64), (1 << 20, 1 << 22)])
def test_memory_bounds_change_no_bit_of_a_linear(monkeypatch: pytest.MonkeyPatch, kept: int, products: int):
    x = reference.quantize(random(9, 100, seed=4), 32)
    expected = naive_linear(x, random_linear(33, 100, 32))
    monkeypatch.setattr(reference, "_KEPT", kept)
    monkeypatch.setattr(reference, "_PRODUCTS", products)
    weight = random_linear(33, 100, 32)
    assert same_bits(reference.linear(x, weight), expected)
    assert same_bits(reference.linear(x, weight), expected)


def test_thread_counts_change_no_bit():
    weight, x = random_linear(512, 512, 64), random(128, 512, seed=6)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            normed = reference.norm_quantize(x, torch.ones(512), 1e-5, 64)
            results.append(reference.linear(normed, weight))
    finally:
        torch.set_num_threads(before)
    assert same_bits(*results)


def test_norm_follows_its_definition_in_scalars():
    x, weight = random(2, 40, seed=7), random(40, seed=8)
    for row, result in zip(x.numpy(), reference.norm(x, weight, 1e-5).numpy(), strict=True):
        lanes = [f(0)] * 16
        for i, value in enumerate(row):
            lanes[i % 16] = lanes[i % 16] + value * value
        for width in (8, 4, 2, 1):
            lanes = [lanes[i] + lanes[i + width] for i in range(width)]
        r = f(1) / np.sqrt(lanes[0] / f(40) + f(1e-5))
        assert result.tolist() == [(value * r) * w for value, w in zip(row, weight.numpy(), strict=True)]


def test_norm_equals_rms_norm_and_works_over_heads():
    x, weight = random(5, 3, 32, seed=9), random(32, seed=10)
    expected = torch.nn.functional.rms_norm(x, (32,), weight, 1e-6)
    torch.testing.assert_close(reference.norm(x, weight, 1e-6), expected, rtol=1e-5, atol=1e-6)


def test_rope_turns_channel_pairs_half_a_head_apart():
    x, angle = random(4, 3, 8, seed=11), torch.rand(4, 4)
    turned = reference.rope(x, angle.cos(), angle.sin())
    pairs = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(4, 1, 4), angle.unsqueeze(1))
    torch.testing.assert_close(turned, torch.cat([pairs.real, pairs.imag], -1))


def test_gated_quantize_is_silu_of_the_first_half_times_the_second():
    x = random(3, 128, seed=12)
    gated = reference.gated_quantize(x, 32)
    value = gated.values * gated.scale.repeat_interleave(32, 1)
    expected = torch.nn.functional.silu(x[:, :64]) * x[:, 64:]
    torch.testing.assert_close(value, expected, rtol=0, atol=expected.abs().max().item() / 253)


def test_embedding_rows_are_integers_times_scales():
    table = random_linear(10, 40, 32)
    rows = reference.embedding_rows(table, torch.tensor([3, 3, 9]))
    expected = table.weight.float() * table.scale.float().repeat_interleave(32, 1)
    assert same_bits(rows, expected[[3, 3, 9], :40])


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_number_stays_in_its_row(poison: float):
    weight, x = random_linear(48, 128, 64, bias=True), random(6, 128, seed=13)
    weight.scale[7] = 0.0  # a row of zeros does not hide it either
    clean = reference.linear(reference.norm_quantize(x, torch.ones(128), 1e-5, 64), weight)
    x[2, 5] = poison
    dirty = reference.linear(reference.norm_quantize(x, torch.ones(128), 1e-5, 64), weight)
    others = [0, 1, 3, 4, 5]
    assert same_bits(dirty[others], clean[others])
    assert not torch.isfinite(dirty[2]).any()
