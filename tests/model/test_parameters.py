from __future__ import annotations

import torch

from kernels.types import Linear
from model.parameters import BlockWeights, EndsWeights, FloatLinear, SpanWeights, tensors
from model.quantize import quantize


def block() -> BlockWeights:
    matrix = quantize(torch.ones(4, 64), torch.ones(4), group=64)
    return BlockWeights(torch.ones(64), matrix, matrix, torch.ones(64), matrix, FloatLinear(torch.ones(2, 3)))


def test_tensors_come_in_the_order_of_the_fields():
    part = block()
    assert isinstance(part.qkv, Linear)
    found = list(tensors(part))
    assert found[0] is part.norm1 and found[1] is part.qkv.weight and found[2] is part.qkv.scale
    assert found[-1] is part.down.weight


def test_what_an_implementation_keeps_beside_a_matrix_does_not_count():
    part = block()
    assert isinstance(part.qkv, Linear)
    before = SpanWeights((part,)).nbytes
    part.qkv.prepared["somebody"] = torch.ones(1000)
    assert SpanWeights((part,)).nbytes == before


def test_shared_memory_counts_once():
    table = quantize(torch.ones(10, 64), group=64)
    alone = SpanWeights((), EndsWeights(embedding=table)).nbytes
    assert alone == 10 * 64 + 10 * 2
    assert SpanWeights((), EndsWeights(embedding=table, norm=torch.ones(64), head=table)).nbytes == alone + 64 * 4
