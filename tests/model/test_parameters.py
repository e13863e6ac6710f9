from __future__ import annotations

import weakref

import pytest
import torch

from kernels.panels import Panels, pack, unpack
from kernels.types import Linear
from model.parameters import BlockWeights, EndsWeights, FloatLinear, SpanWeights, in_layout, on_device, tensors
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


def test_panels_take_the_place_of_int8_matrices_and_of_nothing_else():
    part = block()
    packed = in_layout(part, "panels")
    assert isinstance(packed.qkv, Panels) and isinstance(part.qkv, Linear)
    assert unpack(packed.qkv).weight.equal(part.qkv.weight)
    assert packed.down is part.down and packed.norm1 is part.norm1
    assert in_layout(part, "rows") is part
    assert in_layout(packed, "panels").qkv is packed.qkv
    assert [tensor.dtype for tensor in tensors(packed)][:3] == [torch.float32, torch.uint8, torch.float32]


def test_a_matrix_that_is_shared_is_packed_once():
    table = quantize(torch.ones(10, 64), group=64)
    ends = in_layout(EndsWeights(embedding=table, norm=torch.ones(64), head=table), "panels")
    assert ends.head is ends.embedding
    assert SpanWeights((), ends).nbytes == 64 * 64 + 128 + 64 * 4


def test_a_matrix_that_nobody_else_holds_is_freed_before_the_next_is_packed(monkeypatch: pytest.MonkeyPatch):
    freed: list[int] = []
    freed_before: list[int] = []

    def counting_pack(matrix: Linear) -> Panels:
        freed_before.append(len(freed))
        return pack(matrix)

    def made() -> EndsWeights:
        matrices = [quantize(torch.ones(10, 64), group=64) for _ in range(2)]
        for index, matrix in enumerate(matrices):
            weakref.finalize(matrix.weight, freed.append, index)
        return EndsWeights(embedding=matrices[0], head=matrices[1])

    monkeypatch.setattr("model.parameters.pack", counting_pack)
    ends = in_layout(made(), "panels")
    assert freed_before == [0, 1] and freed == [0, 1] and isinstance(ends.head, Panels)


def test_a_part_moves_as_a_whole_and_what_is_shared_stays_shared():
    table = quantize(torch.ones(10, 64), group=64)
    moved = on_device(EndsWeights(embedding=table, norm=torch.ones(64), head=table), torch.device("meta"))
    assert moved.head is moved.embedding and isinstance(moved.head, Linear)
    assert {tensor.device.type for tensor in tensors(moved)} == {"meta"}
