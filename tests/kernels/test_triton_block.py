"""A whole Block on a device against the definition, byte for byte, and which profile that makes."""

from __future__ import annotations

import logging

import pytest
import torch

from kernels import reference
from kernels.types import PAGE_SIZE, BatchRows, BlockShape, Linear, Quantized, SeatRows
from model.parameters import BlockWeights
from tests.support.triton_device import device_or_skip, same_bits, there
from tests.support.variants import Variant

DEVICE = device_or_skip()

from kernels.cuda import Cuda  # noqa: E402


class Random:
    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def floats(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def linear(self, out: int, width: int, bias: bool) -> Linear:
        groups = -(-width // 64)
        weight = torch.randint(-127, 128, (out, groups * 64), generator=self.generator, dtype=torch.int8)
        weight[:, width:] = 0
        scale = (torch.rand(out, groups, generator=self.generator) * 0.001).half()
        return Linear(weight, scale, self.floats(out) if bias else None, width)

    def block(self, hidden: int, inner: int, shape: BlockShape, bias: bool, norms: bool) -> BlockWeights:
        qkv_size = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
        return BlockWeights(
            self.floats(hidden),
            self.linear(qkv_size, hidden, bias),
            self.linear(hidden, shape.num_heads * shape.head_dim, bias),
            self.floats(hidden),
            self.linear(2 * inner, hidden, bias),
            self.linear(hidden, inner, bias),
            self.floats(shape.head_dim) if norms else None,
            self.floats(shape.head_dim) if norms else None,
        )


@pytest.mark.parametrize(
    ("hidden", "inner", "shape", "bias", "norms"),
    [
        (48, 70, BlockShape(2, 2, 24, 1e-5), True, False),
        (100, 65, BlockShape(8, 1, 32, 1e-6, window=33), False, True),
        (65, 33, BlockShape(3, 1, 64, 1e-5, softcap=4.0), False, False),
    ],
)
def test_prefill_and_decode_have_the_bits_of_the_definition(
    hidden: int, inner: int, shape: BlockShape, bias: bool, norms: bool
):
    random = Random(hidden)
    weights = random.block(hidden, inner, shape, bias, norms)
    on_device, kernels = there(weights, DEVICE), Cuda(DEVICE)
    pages = torch.zeros(2, 4, shape.num_kv_heads, PAGE_SIZE, shape.head_dim).half()
    pages_there = there(pages.clone(), DEVICE)
    for seats in ([SeatRows((3, 1), 29, 5), SeatRows((2,), 0, 2)], [SeatRows((2,), 2, 1), SeatRows((3, 1), 34, 1)]):
        rows = BatchRows.of(seats)
        x, half = random.floats(rows.count, hidden) * 3, shape.head_dim // 2
        cos, sin = random.floats(rows.count, half), random.floats(rows.count, half)
        expected = reference.block(x, weights, shape, rows, cos, sin, *pages)
        moved = there((x, cos, sin), DEVICE)
        found = kernels.block(moved[0], on_device, shape, rows, *moved[1:], *pages_there)
        assert found.device.type == DEVICE.type
        assert same_bits(found, expected)
        assert same_bits(pages_there, pages)
        assert same_bits(moved[0], x), "the residual stream that came in was written to"


def test_the_object_offers_what_the_reference_does():
    kernels = Cuda(DEVICE)
    assert all(callable(getattr(kernels, function)) for function in reference.__all__)
    assert (kernels.name, kernels.layout, kernels.device) == ("cuda", "rows", DEVICE)


def test_a_device_with_the_written_down_bits_keeps_c8():
    assert Cuda(DEVICE).profile() == "c8"


def test_a_device_with_other_bits_keeps_c8_approx_and_says_where(caplog: pytest.LogCaptureFixture):
    def almost(x: Quantized, weight: Linear) -> torch.Tensor:
        return (reference.linear(x, weight).double() * (1 + 2.0**-24)).float()

    kernels = Cuda(torch.device("cpu"))
    vars(kernels).update(vars(Variant(linear=almost)))
    with caplog.at_level(logging.WARNING, "kernels.cuda"):
        assert kernels.profile() == "c8-approx"
    assert "departs from c8's bits in: products" in caplog.text
