"""Random operands for kernels: matrices in the form that an implementation wants, Blocks, Seats with filled Pages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.kit.shapes import LlamaShape
from kernels import panels
from kernels.memory import huge
from kernels.panels import Panels
from kernels.types import GROUP, PAGE_SIZE, BatchRows, Linear, SeatRows
from model.rope import RopeTable

BEYOND_CACHES = 256 << 20  # matrices that are read in turn hold more bytes than this together


@dataclass(frozen=True, eq=False)
class BlockOf:
    """A Block's operands (``kernels.types.BlockOperands``) without QK-norm."""

    norm1: Tensor
    qkv: Any
    o: Any
    norm2: Tensor
    gate_up: Any
    down: Any
    q_norm: None = None
    k_norm: None = None

    @property
    def matrices(self) -> tuple[Any, ...]:
        return self.qkv, self.o, self.gate_up, self.down


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows and all that a Block wants with them."""

    x: Tensor
    rows: BatchRows
    cos: Tensor
    sin: Tensor
    k_pages: Tensor
    v_pages: Tensor


@cache
def random_linear(outputs: int, inputs: int, seed: int = 0) -> Linear:
    """Canonical, with the variance of a trained matrix."""
    generator = torch.Generator().manual_seed(seed)
    groups = -(-inputs // GROUP)
    weight = torch.randint(-127, 128, (outputs, groups * GROUP), dtype=torch.int8, generator=generator)
    weight[:, inputs:] = 0
    scale = torch.rand(outputs, groups, generator=generator).add_(0.5).mul_(inputs**-0.5 / 73.0).half()
    return Linear(weight, scale, None, inputs)


def operand(arithmetic: Any, linear: Linear) -> Linear | Panels:
    """The matrix in the layout that this implementation of the arithmetic takes."""
    return panels.pack(linear) if arithmetic.layout == "panels" else linear


def nbytes(matrix: Linear | Panels) -> int:
    """Weights and scales: what is read at batch 1."""
    return matrix.data.nbytes if isinstance(matrix, Panels) else matrix.weight.nbytes + matrix.scale.nbytes


def clone(matrix: Linear | Panels) -> Linear | Panels:
    """The same matrix somewhere else in memory of the same kind."""
    if isinstance(matrix, Panels):
        memory = huge(matrix.data.nbytes)
        copy = torch.empty_like(matrix.data) if memory is None else memory.view(matrix.data.shape)
        return replace(matrix, data=copy.copy_(matrix.data))
    return Linear(matrix.weight.clone(), matrix.scale.clone(), matrix.bias, matrix.in_features)


def beyond_caches(matrix: Linear | Panels, least: int = BEYOND_CACHES) -> list[Any]:
    """So many copies that whoever walks through all of them finds nothing in the caches."""
    return [matrix, *(clone(matrix) for _ in range(least // nbytes(matrix)))]


def random_block(arithmetic: Any, shape: LlamaShape, seed: int = 0) -> BlockOf:
    generator = torch.Generator().manual_seed(seed)
    norm1, norm2 = torch.randn(2, shape.hidden, generator=generator).mul_(0.1).add_(1.0).unbind(0)
    made = {
        name: operand(arithmetic, random_linear(outputs, inputs, seed + index))
        for index, (name, (outputs, inputs)) in enumerate(shape.matrices.items())
    }
    return BlockOf(norm1.contiguous(), made["qkv"], made["o"], norm2.contiguous(), made["gate_up"], made["down"])


def clone_block(block: BlockOf) -> BlockOf:
    return replace(block, **{name: clone(getattr(block, name)) for name in ("qkv", "o", "gate_up", "down")})


def random_batch(shape: LlamaShape, seats: int, count: int, position: int, seed: int = 0) -> Batch:
    """``seats`` Seats with ``count`` rows each at ``position``; what comes before is in their Pages already."""
    generator = torch.Generator().manual_seed(seed)
    pages_each = -(-(position + count) // PAGE_SIZE)
    of = [tuple(range(seat * pages_each, (seat + 1) * pages_each)) for seat in range(seats)]
    rows = BatchRows.of([SeatRows(pages, position, count) for pages in of])
    cos, sin = RopeTable(shape.model_config()).rows(rows.positions)
    k_pages, v_pages = torch.randn(
        2, seats * pages_each, shape.kv_heads, PAGE_SIZE, shape.head_dim, generator=generator
    ).half()
    x = torch.randn(seats * count, shape.hidden, generator=generator)
    return Batch(x, rows, cos, sin, k_pages, v_pages)
