"""The elementary functions against numpy's scalar IEEE operations and against exact values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.elementary import EXP_MOST, exp, lane_sum, root, silu, tanh

bits = st.integers(0, 2**32 - 1)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def naive_lane_sum(values: list[np.float32]) -> np.float32:
    lanes = [np.float32(0)] * 16
    for index, value in enumerate(values):
        lanes[index % 16] = lanes[index % 16] + value
    for width in (8, 4, 2, 1):
        lanes = [lanes[i] + lanes[i + width] for i in range(width)]
    return lanes[0]


@pytest.mark.parametrize("length", [1, 15, 16, 17, 32, 100, 128, 333])
def test_a_lane_sum_is_the_loop_that_its_docstring_describes(length: int):
    x = torch.randn(3, length, generator=torch.Generator().manual_seed(length)) * 10
    expected = torch.tensor([naive_lane_sum(list(row)) for row in x.numpy()])
    assert same_bits(lane_sum(x), expected)


def test_a_lane_sum_over_another_dimension_is_that_of_the_transpose():
    x = torch.randn(48, 5, 7, generator=torch.Generator().manual_seed(1))
    assert same_bits(lane_sum(x, 0), lane_sum(x.permute(1, 2, 0)))


def test_a_lane_sum_of_negative_zeros_is_positive_zero():
    assert same_bits(lane_sum(torch.full((2, 16), -0.0)), torch.zeros(2))
    assert same_bits(lane_sum(torch.full((2, 40), -0.0)), torch.zeros(2))


def test_appended_zeros_change_no_bit_of_a_lane_sum():
    x = torch.randn(4, 20, generator=torch.Generator().manual_seed(2))
    x[:, 3] = -0.0
    assert same_bits(lane_sum(x), lane_sum(torch.nn.functional.pad(x, (0, 44))))


def test_the_root_is_correctly_rounded_for_a_sample_of_all_mantissas():
    for exponent in (0x3F800000, 0x40000000, 0x00800000):
        x = (torch.arange(0, 1 << 23, 37, dtype=torch.int32) + exponent).view(torch.float32)
        assert same_bits(root(x), torch.from_numpy(np.sqrt(x.numpy())))


def test_exp_is_within_one_unit_in_the_last_place():
    x = torch.linspace(-87.3, EXP_MOST, 500_001)
    exact = np.exp(x.double().numpy())
    unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert np.abs((exp(x).double().numpy() - exact) / unit).max() < 1.0


def test_exp_knows_its_ends():
    x = torch.tensor([0.0, -0.0, -87.7, -1e30, -math.inf, 88.0, 89.0, math.inf])
    top = exp(torch.tensor(88.0)).item()
    assert exp(x).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, top, top, top]
    assert math.isfinite(top) and math.isnan(exp(torch.tensor([math.nan])).item())


def test_exp_leaves_its_argument_alone():
    x = torch.linspace(-5, 5, 11)
    before = x.clone()
    exp(x)
    assert same_bits(x, before)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=70))
@settings(max_examples=60, deadline=None)
def test_exp_of_a_number_does_not_depend_on_its_neighbours(values: list[float]):
    x = torch.tensor(values)
    alone = torch.cat([exp(value.view(1)) for value in x])
    assert same_bits(exp(x), alone)


def test_exp_is_the_scalar_recipe_of_its_docstring():
    f = np.float32
    recipe = [
        float.fromhex(c) for c in ("0x1.6a2434p-10", "0x1.1239e2p-7", "0x1.5558f2p-5", "0x1.555492p-3", "0x1.fffffcp-2")
    ]
    x = np.linspace(-80, 80, 1001, dtype=np.float32)
    expected = []
    for value in x:
        k = f(np.rint(value * f(float.fromhex("0x1.715476p+0"))))
        r = f(f(value - k * f(float.fromhex("0x1.62e4p-1"))) - f(k * f(float.fromhex("0x1.7f7d1cp-20"))))
        p = f(recipe[0])
        for coefficient in recipe[1:]:
            p = f(f(p * r) + f(coefficient))
        expected.append(f(f(f(p * f(r * r)) + r) + f(1)) * f(2.0 ** int(k)))
    assert same_bits(exp(torch.from_numpy(x)), torch.from_numpy(np.array(expected, dtype=np.float32)))


def test_silu_is_close_to_torchs_and_exact_at_its_ends():
    x = torch.linspace(-30, 30, 1001)
    torch.testing.assert_close(silu(x), torch.nn.functional.silu(x), rtol=1e-6, atol=1e-12)
    assert silu(torch.tensor([0.0, 200.0])).tolist() == [0.0, 200.0]


def test_tanh_is_the_scalar_recipe_of_its_docstring():
    f = np.float32
    x = torch.linspace(-50, 50, 2001)
    expected = [f(1) - f(2) / (power + f(1)) for power in exp(x + x).numpy()]
    assert same_bits(tanh(x), torch.from_numpy(np.array(expected, dtype=f)))


def test_tanh_is_close_to_the_exact_one_and_exact_at_its_ends():
    x = torch.linspace(-20, 20, 200_001)
    assert (tanh(x).double() - x.double().tanh()).abs().max() < 2.0**-22
    ends = torch.tensor([0.0, -0.0, 44.0, -44.0, 3e38, -3e38, math.inf, -math.inf])
    assert tanh(ends).tolist() == [0.0, 0.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]
    assert math.isnan(tanh(torch.tensor([math.nan])).item())


def test_subnormals_are_kept():
    tiny = torch.full((64,), 2.0**-140)
    assert (tiny * 0.5 * 2.0).equal(tiny), "this process flushes subnormals; profile c8 is not defined then"
