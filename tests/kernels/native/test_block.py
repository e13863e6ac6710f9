"""A whole Block of every variant against the reference: its rows, and every byte of the Pages that it leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given

from kernels import reference
from kernels.types import BlockShape
from tests.support.operands import BlockCase, block_cases, examples
from tests.support.twins import engines, run_block, same_bits, say

pytest.importorskip("shoal_native", reason="the native kernels are not installed")

PLANS = ((40, 1), (0, 9), (31, 2))


def check(case: BlockCase, *threads: int) -> None:
    operands = case.make()
    theirs = operands.fresh()
    expected = run_block(reference, theirs)
    assert expected.isfinite().all()
    for kernels in engines(*threads):
        ours = operands.fresh()
        x = ours.x.clone()
        assert same_bits(run_block(kernels, ours), expected), say(kernels)
        assert same_bits(ours.k_pages, theirs.k_pages) and same_bits(ours.v_pages, theirs.v_pages), say(kernels)
        assert same_bits(ours.x, x), f"{say(kernels)}: the residual stream that came was changed"


@given(block_cases())
@examples(100)
def test_a_block_of_any_shape(case: BlockCase):
    check(case, 1, 2)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("softcap", [None, 20.0])
@pytest.mark.parametrize("window", [None, 20])
def test_every_option(window: int | None, softcap: float | None, biases: bool, qk_norm: bool):
    shape = BlockShape(6, 2, 24, 1e-5, window, softcap)
    case = BlockCase(1, 100, 90, shape, PLANS, biases, qk_norm)
    check(case, 1)


@pytest.mark.parametrize("ratio", range(1, 9))
def test_every_number_of_heads_that_share(ratio: int):
    check(BlockCase(ratio, 80, 70, BlockShape(2 * ratio, 2, 32, 1e-6), PLANS), 2)


@pytest.mark.parametrize("position", [1000, 2990])
def test_a_long_context(position: int):
    check(BlockCase(position, 64, 64, BlockShape(2, 1, 32, 1e-5), ((position, 10), (5, 1)), qk_norm=True), 1, 2)


def test_130_rows_of_one_seat():
    check(BlockCase(0, 192, 130, BlockShape(4, 2, 64, 1e-5), ((0, 130),)), 1, 2)


def test_options_do_change_the_outcome():
    """Otherwise the tests above would not see one that is forgotten."""
    plain = BlockCase(3, 100, 90, BlockShape(4, 2, 24, 1e-5), PLANS)
    shapes = [replace(plain.shape, window=5), replace(plain.shape, softcap=0.5), replace(plain.shape, eps=0.5)]
    cases = [plain, *(replace(plain, shape=shape) for shape in shapes)]
    cases += [replace(plain, biases=True), replace(plain, qk_norm=True)]
    outcomes = [run_block(reference, case.make()) for case in cases]
    assert all(not torch.equal(outcomes[0], other) for other in outcomes[1:])


def test_a_block_of_one_shape_then_of_another():
    """The handle that an engine keeps for a Block's weights is that of the shape that is asked for."""
    operands = BlockCase(4, 64, 64, BlockShape(2, 1, 32, 1e-5), ((40, 3),)).make()
    for window in (None, 7, None):
        case = replace(operands, shape=replace(operands.shape, window=window))
        expected = run_block(reference, case.fresh())
        for kernels in engines(1):
            assert same_bits(run_block(kernels, case.fresh()), expected), say(kernels)


def test_batches_one_after_the_other_share_no_scratch():
    """A small Batch after a large one finds its predecessor's numbers in the scratch memory, and does not use them."""
    large = BlockCase(5, 200, 150, BlockShape(4, 2, 64, 1e-5), ((0, 64),)).make()
    large.x.fill_(torch.nan)
    small = BlockCase(6, 70, 80, BlockShape(3, 1, 24, 1e-5), ((33, 1), (0, 4))).make()
    expected = run_block(reference, small.fresh())
    for kernels in engines(1, 2):
        run_block(kernels, large.fresh())
        assert same_bits(run_block(kernels, small.fresh()), expected), say(kernels)
