"""Memory that C++ points to: it stays while a handle does, and goes when the handle goes."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import torch

from kernels import reference
from kernels.panels import Panels, pack
from kernels.types import GROUP, BlockShape
from tests.support.operands import BlockCase, Numbers
from tests.support.twins import engine, run_block, same_bits

shoal_native = pytest.importorskip("shoal_native", reason="the native kernels are not installed")


def test_a_matrix_keeps_its_memory_when_python_lets_go_of_it():
    linear = Numbers(0).linear(200, 300, True)
    x = reference.quantize(Numbers(1).normal(5, 300), GROUP)
    expected, y = reference.linear(x, linear), torch.zeros(5, 200)
    panels = pack(linear)
    data, bias = panels.data.clone(), linear.bias.clone()
    alive = [weakref.ref(data), weakref.ref(bias)]
    handle = shoal_native.Matrix(data, bias, 200, 300)
    del data, bias
    gc.collect()
    junk = [torch.full((2, 5, 4224), 77, dtype=torch.uint8) for _ in range(50)]  # would lie where the matrix lay
    assert all(ref() is not None for ref in alive) and junk
    shoal_native.Engine("portable", 1).linear(x.values, x.scale, handle, y)
    assert same_bits(y, expected)
    del handle
    gc.collect()
    assert all(ref() is None for ref in alive)


def test_what_an_engine_knows_of_a_matrix_and_a_block_goes_when_they_go():
    from kernels import native

    kernels = native.open("portable", 1)
    operands = BlockCase(0, 64, 64, BlockShape(2, 1, 32, 1e-5), ((0, 2),), True, True).make()
    run_block(kernels, operands)
    packed = operands.packed
    parts = [value for value in vars(packed).values() if value is not None]
    alive = [weakref.ref(part.data if isinstance(part, Panels) else part) for part in parts]
    assert len(alive) == 8 and all(ref() is not None for ref in alive)
    del operands, packed, parts
    gc.collect()
    assert all(ref() is None for ref in alive)


def test_a_block_keeps_its_parts_when_python_lets_go_of_them():
    """The handle, as kernels.native makes it, after everything that it was made of is gone."""
    case = BlockCase(0, 64, 64, BlockShape(2, 1, 32, 1e-5), ((0, 2),), True, True)
    operands = case.make()
    theirs = operands.fresh()
    expected = run_block(reference, theirs)
    kernels, shape = engine("portable"), operands.shape
    handle = kernels._block(case.make().packed, shape)
    gc.collect()
    junk = [torch.full((3, 4224), 77, dtype=torch.uint8) for _ in range(50)]
    y, seats = torch.zeros(2, 64), [(seat.pages, seat.position, seat.count) for seat in operands.rows.seats]
    rows = shoal_native.Rows(seats)
    raw = shoal_native.Engine("portable", 2)
    raw.block(operands.x, handle, rows, operands.cos, operands.sin, operands.k_pages, operands.v_pages, y)
    assert same_bits(y, expected) and same_bits(operands.k_pages, theirs.k_pages) and junk


def test_no_call_keeps_or_loses_a_reference():
    raw = shoal_native.Engine("portable", 2)
    x, weight, y = torch.ones(20, 64), torch.ones(64), torch.zeros(20, 64)
    counts = [sys.getrefcount(thing) for thing in (x, weight, y)]
    for _ in range(100):
        raw.norm(x, weight, 1e-5, y)
        with pytest.raises(ValueError, match="weight"):
            raw.norm(x, y, 1e-5, y)
    assert [sys.getrefcount(thing) for thing in (x, weight, y)] == counts
