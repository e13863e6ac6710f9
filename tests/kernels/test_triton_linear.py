"""The INT8 matrix product on a device against the definition, byte for byte."""

from __future__ import annotations

import pytest
import torch

from kernels import reference
from kernels.types import Linear, Quantized
from tests.support.triton_device import device_or_skip, same_bits, there

DEVICE = device_or_skip()

from kernels import triton_linear  # noqa: E402


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_linear(out: int, width: int, group: int, seed: int = 0, bias: bool = False) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    groups = -(-width // group)
    weight = torch.randint(-127, 128, (out, groups * group), generator=generator, dtype=torch.int8)
    weight[:, width:] = 0
    scale = (torch.rand(out, groups, generator=generator) * 0.01).half()
    return Linear(weight, scale, random(out, seed=seed) if bias else None, width)


def linear(x: Quantized, weight: Linear, residual: torch.Tensor | None = None) -> torch.Tensor:
    return triton_linear.linear(there(x, DEVICE), there(weight, DEVICE), there(residual, DEVICE)).cpu()


@pytest.mark.parametrize(
    ("rows", "out", "width", "group", "bias"),
    [
        (1, 1, 1, 64, False),
        (1, 33, 128, 64, True),
        (2, 7, 100, 64, True),
        (9, 65, 130, 64, False),
        (3, 40, 100, 32, True),
        (4, 5, 50, 16, False),
        (2, 5, 96, 48, True),  # a group that is no power of two
        (17, 66, 64, 64, True),
        (65, 129, 70, 64, False),
    ],
)
def test_every_shape_has_the_bits_of_the_definition(rows: int, out: int, width: int, group: int, bias: bool):
    weight = random_linear(out, width, group, rows, bias)
    x = reference.quantize(random(rows, width, seed=rows) * 3, group)
    assert same_bits(linear(x, weight), reference.linear(x, weight))


def test_a_residual_is_added_after_the_bias():
    weight, residual = random_linear(33, 70, 64, bias=True), random(5, 33, seed=2) * 100
    x = reference.quantize(random(5, 70, seed=3), 64)
    assert same_bits(linear(x, weight, residual), reference.linear(x, weight) + residual)


def test_subnormal_products_are_kept():
    weight = random_linear(20, 128, 64)
    weight = Linear(weight.weight, torch.full_like(weight.scale, 2.0**-24), None, 128)
    x = Quantized(torch.randint(-127, 128, (2, 128), dtype=torch.int8), torch.full((2, 2), 2.0**-120))
    y = linear(x, weight)
    assert same_bits(y, reference.linear(x, weight))
    assert y.count_nonzero() > 30


def test_nothing_times_a_negative_number_is_positive_zero():
    weight = Linear(torch.ones(3, 64, dtype=torch.int8), torch.zeros(3, 1).half(), None, 64)
    assert same_bits(linear(reference.quantize(torch.full((2, 64), -1.0), 64), weight), torch.zeros(2, 3))


def test_sums_at_the_largest_integers_are_exact():
    weight = Linear(torch.full((2, 128), -127, dtype=torch.int8), torch.ones(2, 2).half(), None, 128)
    x = Quantized(torch.full((1, 128), 127, dtype=torch.int8), torch.ones(1, 2))
    assert linear(x, weight).tolist() == [[-128.0 * 127 * 127] * 2]


def test_a_row_alone_equals_the_row_in_any_batch():
    weight, x = random_linear(40, 128, 64, bias=True), reference.quantize(random(66, 128, seed=3), 64)
    together = linear(x, weight)
    for start, end in ((0, 1), (7, 9), (10, 33), (65, 66)):
        assert same_bits(linear(Quantized(x.values[start:end], x.scale[start:end]), weight), together[start:end])


def test_no_rows_are_no_launch():
    weight = there(random_linear(4, 64, 64), DEVICE)
    nothing = Quantized(torch.zeros(0, 64, dtype=torch.int8, device=DEVICE), torch.zeros(0, 1, device=DEVICE))
    assert triton_linear.linear(nothing, weight).shape == (0, 4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
def test_what_is_not_a_number_stays_in_its_row():
    weight, x = random_linear(33, 128, 64), random(6, 128, seed=5)
    clean = linear(reference.quantize(x, 64), weight)
    x[2, 5] = torch.nan
    dirty = linear(reference.quantize(x, 64), weight)
    others = [0, 1, 3, 4, 5]
    assert same_bits(dirty[others], clean[others])
    assert not torch.isfinite(dirty[2]).any()


def test_embedding_rows_are_the_definitions():
    table, ids = random_linear(50, 100, 64), torch.tensor([3, 3, 49, 0])
    found = triton_linear.embedding_rows(there(table, DEVICE), ids)  # ids may still be on the host
    assert same_bits(found, reference.embedding_rows(table, ids))
