"""A row's bits are its own: not the Batch's, not the Chunk's, not the number of threads'. No reference here, so shapes
may be larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import reference
from kernels.panels import pack
from kernels.types import GROUP, BatchRows, BlockShape, Quantized, SeatRows
from tests.support.operands import (
    BlockCase,
    BlockOperandsOnPages,
    Numbers,
    block_cases,
    examples,
    kinds,
    seeds,
    widths,
)
from tests.support.twins import engine, engines, run_block, same_bits, same_quantized, say

if TYPE_CHECKING:
    from kernels.native import Native

pytest.importorskip("shoal_native", reason="the native kernels are not installed")

SHAPES = [
    BlockShape(4, 2, 32, 1e-5),
    BlockShape(7, 1, 24, 1e-5, window=33),
    BlockShape(8, 8, 64, 1e-6, softcap=20.0),
    BlockShape(16, 2, 80, 1e-5, window=70, softcap=5.0),
]


def rows_of(q: Quantized, start: int, end: int) -> Quantized:
    return Quantized(q.values[start:end], q.scale[start:end])


@given(seeds, st.integers(2, 130), widths, kinds, st.data())
@examples(60)
def test_some_rows_alone_are_those_of_the_batch(seed: int, rows: int, width: int, kind: str, data: st.DataObject):
    start = data.draw(st.integers(0, rows - 1))
    end = data.draw(st.one_of(st.just(start + 1), st.integers(start + 1, rows)))
    numbers = Numbers(seed)
    x, weight = numbers.floats(kind, rows, width), numbers.normal(width)
    matrix = pack(numbers.linear(150, width, True))
    gated = numbers.normal(rows, 2 * width)
    for kernels in engines(1, 2):
        q = kernels.quantize(x, GROUP)
        assert same_quantized(kernels.quantize(x[start:end], GROUP), rows_of(q, start, end)), say(kernels)
        y = kernels.linear(rows_of(q, start, end), matrix)
        assert same_bits(y, kernels.linear(q, matrix)[start:end]), say(kernels)
        y = kernels.norm(x[start:end], weight, 1e-5)
        assert same_bits(y, kernels.norm(x, weight, 1e-5)[start:end]), say(kernels)
        q = kernels.norm_quantize(x[start:end], weight, 1e-5, GROUP)
        assert same_quantized(q, rows_of(kernels.norm_quantize(x, weight, 1e-5, GROUP), start, end)), say(kernels)
        q = kernels.gated_quantize(gated[start:end], GROUP)
        assert same_quantized(q, rows_of(kernels.gated_quantize(gated, GROUP), start, end)), say(kernels)


def alone(kernels: Native, operands: BlockOperandsOnPages) -> tuple[list[torch.Tensor], BlockOperandsOnPages]:
    """Each Seat in a Batch of its own, one after the other."""
    outcomes, first, pages = [], 0, operands.fresh()
    for seat in operands.rows.seats:
        case = pages.with_rows(range(first, first + seat.count), BatchRows.of([seat]))
        outcomes.append(run_block(kernels, case))
        first += seat.count
    return outcomes, pages


@given(block_cases(most_work=200000), st.randoms(use_true_random=False))
@examples(60)
def test_a_seat_alone_is_the_seat_among_strangers_in_whatever_order(case: BlockCase, shuffle):
    operands = case.make()
    seats = operands.rows.seats
    starts = [sum(seat.count for seat in seats[:i]) for i in range(len(seats))]
    order = list(range(len(seats)))
    shuffle.shuffle(order)
    rows = [starts[i] + offset for i in order for offset in range(seats[i].count)]
    for kernels in engines(1, 2):
        expected, pages = alone(kernels, operands)
        together = operands.fresh().with_rows(rows, BatchRows.of([seats[i] for i in order]))
        y = run_block(kernels, together)
        assert same_bits(y, torch.cat([expected[i] for i in order])), say(kernels)
        assert same_bits(together.k_pages, pages.k_pages) and same_bits(together.v_pages, pages.v_pages), say(kernels)


def prompt(shape: BlockShape, length: int, seed: int = 0) -> BlockOperandsOnPages:
    return BlockCase(seed, 100, 130, shape, ((0, length),), biases=True, qk_norm=True).make()


def in_chunks(kernels: Native, operands: BlockOperandsOnPages, size: int) -> tuple[torch.Tensor, BlockOperandsOnPages]:
    pages, parts = operands.fresh(), []
    seat = operands.rows.seats[0]
    for start in range(0, seat.count, size):
        chunk = SeatRows(seat.pages, start, min(size, seat.count - start))
        case = pages.with_rows(range(start, start + chunk.count), BatchRows.of([chunk]))
        parts.append(run_block(kernels, case))
    return torch.cat(parts), pages


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prompt_in_one_chunk_is_the_prompt_in_chunks_of_1_7_and_64(shape: BlockShape):
    operands = prompt(shape, 150)
    for kernels in engines(1, 2):
        whole, written = in_chunks(kernels, operands, 150)
        for size in (1, 7, 64):
            y, pages = in_chunks(kernels, operands, size)
            assert same_bits(y, whole), f"{say(kernels)}, chunks of {size}"
            assert same_bits(pages.k_pages, written.k_pages) and same_bits(pages.v_pages, written.v_pages)


@pytest.mark.parametrize("shape", SHAPES)
def test_chunks_of_one_variant_continue_those_of_another(shape: BlockShape):
    """A Session moves to another machine in mid-sentence, and its keys and values are made again there."""
    operands = prompt(shape, 75)
    results = [in_chunks(kernels, operands, 64) for kernels in engines(1)]
    assert all(same_bits(y, results[0][0]) for y, _ in results)
    mixed, seat, parts = operands.fresh(), operands.rows.seats[0], []
    for step, start in enumerate(range(0, 75, 5)):
        case = mixed.with_rows(range(start, start + 5), BatchRows.of([SeatRows(seat.pages, start, 5)]))
        parts.append(run_block(engines(1)[step % len(engines(1))], case))
    assert same_bits(torch.cat(parts), results[0][0])


@pytest.mark.parametrize("plans", [((0, 1),), ((2500, 1),), ((0, 200),), ((40, 1), (0, 90), (7, 5), (31, 1), (64, 1))])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_number_of_threads_changes_no_bit(shape: BlockShape, plans: tuple[tuple[int, int], ...]):
    operands = BlockCase(2, 300, 200, shape, plans).make()
    for name in {kernels.name for kernels in engines(1)}:
        outcomes: list[BlockOperandsOnPages] = []
        rows: list[torch.Tensor] = []
        for threads in (1, 2, 5):
            outcomes.append(operands.fresh())
            rows.append(run_block(engine(name, threads), outcomes[-1]))
        for y, case in zip(rows, outcomes, strict=True):
            assert same_bits(y, rows[0]) and same_bits(case.k_pages, outcomes[0].k_pages)
            assert same_bits(case.v_pages, outcomes[0].v_pages)


@given(seeds, st.integers(1, 130), st.integers(1, 400), st.integers(1, 500))
@examples(30)
def test_the_number_of_threads_changes_no_bit_of_a_product(seed: int, rows: int, width: int, out: int):
    """Many rows and few panels, or the other way round: panels are cut in other ways then."""
    numbers = Numbers(seed)
    x, matrix = reference.quantize(numbers.normal(rows, width), GROUP), pack(numbers.linear(out, width))
    for kernels in engines(1):
        expected = kernels.linear(x, matrix)
        for threads in (2, 5):
            assert same_bits(engine(kernels.name, threads).linear(x, matrix), expected), say(kernels)


def test_what_a_page_held_before_does_not_matter():
    """The Pages of these cases hold NaN where nobody wrote; here is anything else, also behind a Seat's last row."""
    operands = BlockCase(9, 64, 64, BlockShape(4, 2, 32, 1e-5), ((45, 3), (0, 2))).make()
    clean = operands.fresh()
    for pages in (clean.k_pages, clean.v_pages):
        pages[pages.isnan()] = 1000.0
    for kernels in engines(1, 2):
        expected = run_block(kernels, operands.fresh())
        assert same_bits(run_block(kernels, clean.fresh()), expected) and expected.isfinite().all(), say(kernels)
