"""Every native implementation that runs here, and what it means that one equals the reference."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels.types import Quantized
from tests.support.operands import BlockOperandsOnPages

if TYPE_CHECKING:
    from kernels import Kernels
    from kernels.native import Native


@cache
def engine(name: str, threads: int = 1) -> Native:
    """Kept for all tests; its threads sleep."""
    from kernels import native

    return native.open(name, threads)


def engines(*threads: int) -> list[Native]:
    """Every variant with each number of ``threads``."""
    from kernels import native

    return [engine(name, count) for name in native.available() for count in threads]


def say(kernels: Native) -> str:
    return f"{kernels.name} with {kernels.threads} threads"


def same_bits(found: Tensor, expected: Tensor) -> bool:
    """-0 is not +0 here, and a NaN is only itself."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    return torch.equal(found.contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8))


def same_quantized(found: Quantized, expected: Quantized) -> bool:
    return same_bits(found.values, expected.values) and same_bits(found.scale, expected.scale)


def agree(found: Tensor, expected: Tensor) -> bool:
    """The same numbers are finite, and have the same bits; which NaN or infinity the others are is nobody's promise."""
    finite = expected.isfinite()
    return torch.equal(found.isfinite(), finite) and same_bits(found[finite], expected[finite])


def agree_quantized(found: Quantized, expected: Quantized) -> bool:
    """Integers count where their group's scale is finite."""
    rows, groups = expected.scale.shape
    finite = expected.scale.isfinite()
    integers = (q.values.view(rows, groups, -1)[finite] for q in (found, expected))
    return agree(found.scale, expected.scale) and torch.equal(*integers)


def run_block(kernels: Kernels, case: BlockOperandsOnPages) -> Tensor:
    """Writes into the Pages of ``case``."""
    weights = case.weights if kernels.layout == "rows" else case.packed
    return kernels.block(case.x, weights, case.shape, case.rows, case.cos, case.sin, case.k_pages, case.v_pages)
