"""The elementary functions on a device against ``elementary``, number by number, also at the edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels import elementary
from tests.support.triton_device import device_or_skip, same_bits

DEVICE = device_or_skip()

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from kernels.triton_elementary import exp, lane_tree, launch, power_of_two, round_half_even, silu, tanh  # noqa: E402


@triton.jit
def _apply(x, y, BLOCK: tl.constexpr, WHICH: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at)
    if WHICH == 0:
        value = exp(value)
    elif WHICH == 1:
        value = silu(value)
    elif WHICH == 2:
        value = tanh(value)
    elif WHICH == 3:
        value = tl.math.sqrt_rn(value)
    else:
        value = round_half_even(value)
    tl.store(y + at, value)


@triton.jit
def _tree(x, y, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    lanes = tl.load(x + at[:, None] * 16 + tl.arange(0, 16)[None, :])
    tl.store(y + at, lane_tree(lanes, COUNT))


def applied(which: int, x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x, device=DEVICE)
    launch(_apply, (1,), x.to(DEVICE), y, BLOCK=len(x), WHICH=which)
    return y.cpu()


def numbers(most: float) -> torch.Tensor:
    """2^16 of them: all magnitudes, dense ones around zero, and what is special."""
    generator = torch.Generator().manual_seed(0)
    dense = (torch.rand(1 << 15, generator=generator) * 2 - 1) * most
    bits = torch.randint(0, 1 << 31, (1 << 15,), generator=generator, dtype=torch.int64)
    spread = (bits - (bits % 2) * (1 << 31)).int().view(torch.float32)
    x = torch.cat([dense, torch.where(spread.isfinite(), spread, 1.0)])
    special = torch.tensor([0.0, -0.0, 88.0, -88.0, 88.1, -87.5, -87.8, 1e-45, -1e-45, 3.4e38, -3.4e38, 0.5, 1.5, -2.5])
    x[: len(special)] = special
    return x


def test_exp_silu_and_tanh_are_the_definitions():
    x = numbers(100.0)
    assert same_bits(applied(0, x), elementary.exp(x.clone()))
    assert same_bits(applied(1, x), elementary.silu(x))
    assert same_bits(applied(2, x / 8), elementary.tanh(x / 8))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
def test_nan_and_infinity_pass_exp_as_the_definition_says():
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0])
    assert same_bits(applied(0, x), elementary.exp(x.clone()))


def test_the_root_is_correctly_rounded():
    x = numbers(4.0).abs()
    assert same_bits(applied(3, x), elementary.root(x))


def test_rounding_is_half_to_even():
    x = numbers(200.0).clamp(-(2.0**21), 2.0**21)
    assert torch.equal(applied(4, x), x.round())
    halves = torch.arange(-128, 128) + 0.5
    assert torch.equal(applied(4, halves), halves.round())


def test_sixteen_lanes_meet_in_the_definitions_tree():
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 16)
    y = torch.empty(64, device=DEVICE)
    launch(_tree, (1,), x.to(DEVICE), y, COUNT=64)
    assert same_bits(y, elementary.lane_sum(x))


def test_no_launch_lets_the_compiler_fuse():
    seen: dict[str, Any] = {}

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]):
            return lambda *arguments, **options: seen.update(options, grid=grid)

    launch(Kernel(), (3,), torch.zeros(1, device=DEVICE), BLOCK=16)
    assert seen == {"grid": (3,), "BLOCK": 16, "enable_fp_fusion": False}


def test_blocks_are_the_next_power_of_two():
    assert [power_of_two(n) for n in (0, 1, 2, 3, 64, 65)] == [1, 1, 2, 4, 64, 128]
