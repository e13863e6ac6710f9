"""Numbers that arithmetic likes to treat specially: subnormals, zeros of both signs, huge ones, NaN and infinity, in
every variant as in the reference; and the calling thread's float mode, which is neither trusted nor changed.

Where something is not finite, which NaN or infinity it is is not defined, so only what is finite is compared by bits.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kernels import reference
from kernels.panels import pack
from kernels.types import GROUP, BatchRows, BlockShape, Linear, Quantized, SeatRows
from tests.support.operands import BlockCase, Numbers, examples, num_pages, seat_plans, seeds, widths
from tests.support.twins import agree, agree_quantized, engines, run_block, same_bits, same_quantized, say

if TYPE_CHECKING:
    from kernels import Kernels

pytest.importorskip("shoal_native", reason="the native kernels are not installed")

NAN, INF = float("nan"), float("inf")
POISON = [NAN, INF, -INF]
HALVES = torch.arange(0x7C00, dtype=torch.int16).view(torch.float16)  # every finite one that is not negative
hard_values = st.sampled_from(
    [0.0, -0.0, 1e-45, -1e-40, 2.0**-126, 2.0**-101, 2.0**-100, 1.0, 65504.0, 1e30, -1e30, 3.4e38, -3.4e38]
)


# Small and huge


@given(seeds, st.integers(1, 8), widths, st.lists(hard_values, min_size=1, max_size=4))
@examples(60)
def test_rows_of_hard_numbers_go_through_every_kernel_that_works_on_rows(
    seed: int, rows: int, width: int, hard: list[float]
):
    numbers = Numbers(seed)
    choice, values = numbers.integers(0, len(hard), rows, width), numbers.normal(rows, width)
    for index, value in enumerate(hard):
        values[choice == index] = value
    weight, matrix = numbers.normal(width), numbers.linear(70, width, True)
    gate_up = torch.cat([values, values.flip(1)], 1)
    quantized = reference.quantize(values, GROUP)
    for kernels in engines(1, 2):
        assert same_quantized(kernels.quantize(values, GROUP), quantized), say(kernels)
        assert agree(kernels.linear(quantized, pack(matrix)), reference.linear(quantized, matrix)), say(kernels)
        assert agree(kernels.norm(values, weight, 1e-5), reference.norm(values, weight, 1e-5)), say(kernels)
        found, expected = (k.norm_quantize(values, weight, 1e-5, GROUP) for k in (kernels, reference))
        assert agree_quantized(found, expected), say(kernels)
        found, expected = (k.gated_quantize(gate_up, GROUP) for k in (kernels, reference))
        assert agree_quantized(found, expected), say(kernels)


@given(seeds, seat_plans(most_rows=30, most_seats=3), st.lists(hard_values, min_size=1, max_size=4))
@examples(40)
def test_hard_numbers_go_through_attention(seed: int, plans: list[tuple[int, int]], hard: list[float]):
    numbers = Numbers(seed)
    rows = numbers.batch(plans)
    pages = numbers.kv(rows, num_pages(plans), 2, 24, written=True)
    q = numbers.normal(rows.count, 4, 24)
    choice = numbers.integers(0, 4 * len(hard), rows.count, 4, 24)
    for index, value in enumerate(hard):
        q[choice == index] = value
    for tensor in pages:  # what is huge in FP32 becomes FP16's largest
        choice = numbers.integers(0, 9 * len(hard), *tensor.shape)
        for index, value in enumerate(hard):
            tensor[(choice == index) & tensor.isfinite()] = max(-65504.0, min(65504.0, value))
    for window in (None, 9):
        expected = reference.attention(q, rows, *pages, window, 30.0)
        for kernels in engines(1, 2):
            assert agree(kernels.attention(q, rows, *pages, window, 30.0), expected), say(kernels)


def test_groups_of_zeros_and_of_almost_nothing():
    x = torch.zeros(8, 4 * GROUP)
    x[1] = -0.0
    x[2] = 1e-45  # the least subnormal
    x[3] = 2.0**-101  # amax counts as 2^-100: half of the steps
    x[4] = 2.0**-100
    x[5, GROUP] = -(2.0**-99)  # a group between groups of zeros
    x[6, ::3] = 2.0**-108
    x[7, :GROUP] = 1e38
    expected = reference.quantize(x, GROUP)
    assert expected.values[3].eq(64).all() and expected.values[4].eq(127).all() and not expected.values[:3].any()
    for kernels in engines(1, 2):
        found = kernels.quantize(x, GROUP)
        assert same_quantized(found, expected), say(kernels)
        norms = [k.norm_quantize(x, torch.ones(4 * GROUP), 0.0, GROUP) for k in (kernels, reference)]
        assert agree_quantized(*norms), say(kernels)


def test_zeros_keep_their_sign():
    """x * r * weight and a * cos - b * sin make zeros of both signs; a dot product of zeros is +0."""
    x = torch.tensor([0.0, -0.0, 1.0, -1.0]).repeat(2, 10)
    weight = torch.tensor([1.0, 1.0, -0.0, -0.0]).repeat(10)
    turned = x.view(2, 1, 40)
    cos, sin = torch.tensor([1.0, -1.0, 0.0, -0.0] * 5).expand(2, 20).contiguous(), torch.zeros(2, 20)
    matrix = Numbers(0).linear(3, 40)
    matrix.weight[1], matrix.scale[2] = 0, 0.0
    bias = Linear(matrix.weight, matrix.scale, torch.tensor([-0.0, -0.0, -0.0]), 40)
    quantized = reference.quantize(torch.zeros(2, 40), GROUP)
    for kernels in engines(1):
        assert same_bits(kernels.norm(x, weight, 1e-5), reference.norm(x, weight, 1e-5)), say(kernels)
        assert same_bits(kernels.rope(turned, cos, sin), reference.rope(turned, cos, sin)), say(kernels)
        for each in (matrix, bias):
            y = kernels.linear(quantized, pack(each))
            assert same_bits(y, reference.linear(quantized, each)) and not y.signbit().any(), say(kernels)
    signs = reference.norm(x, weight, 1e-5).signbit()
    assert signs.any() and not signs.all(), "zeros of one sign only"


def test_every_half_as_a_scale():
    """FP16 to FP32 is exact, also for subnormals; 127 of the largest does not overflow."""
    weight = torch.tensor([1, -127, 0]).repeat_interleave(GROUP).to(torch.int8).expand(len(HALVES), -1).contiguous()
    table = Linear(weight, HALVES.view(-1, 1).expand(-1, 3).contiguous(), None, 3 * GROUP)
    panels, ids = pack(table), torch.arange(len(HALVES))
    x = Quantized(torch.ones(1, 3 * GROUP, dtype=torch.int8), torch.tensor([[1.0, 1e-38, 1.0]]))
    expected, product = reference.embedding_rows(table, ids), reference.linear(x, table)
    assert torch.equal(expected[:, 0], HALVES.float())
    for kernels in engines(1):
        assert same_bits(kernels.embedding_rows(panels, ids), expected), say(kernels)
        assert same_bits(kernels.linear(x, panels), product), say(kernels)


def test_every_half_as_a_value():
    """A Seat with one token sees its value as it is: p = 1, l = 1. Whole vectors of 16 channels, and a rest."""
    signed = torch.cat([HALVES, -HALVES])
    for head_dim in (16, 24):
        count = len(signed) // (8 * 32 * head_dim) + 1
        values = torch.nn.functional.pad(signed, (0, count * 8 * 32 * head_dim - len(signed)))
        pages = values.view(count, 8, 32, head_dim).contiguous()
        rows = BatchRows.of([SeatRows((page,), position, 1) for page in range(count) for position in range(32)])
        q = torch.zeros(rows.count, 8, head_dim)
        expected = reference.attention(q, rows, pages, pages, 1)
        assert torch.equal(expected.view(count, 32, 8, head_dim).transpose(1, 2), pages.float())
        for kernels in engines(1):
            assert same_bits(kernels.attention(q, rows, pages, pages, 1), expected), say(kernels)


def test_keys_and_values_are_rounded_half_to_even_between_every_two_halves():
    middles = (HALVES[:-1].float() + HALVES[1:].float()) / 2
    ends = torch.tensor([65504.0, 65519.996, 0.0, 1e-45, 2.0**-25, 2.0**-26, 1e-30])
    x = torch.cat(
        [HALVES.float(), middles, middles.nextafter(torch.tensor(1e9)), middles.nextafter(torch.zeros(1)), ends]
    )
    count = -(-len(x) // (32 * 24))
    x = torch.nn.functional.pad(torch.cat([x, -x]), (0, 2 * (count * 32 * 24 - len(x)))).view(2, -1, 1, 24)
    assert_written(x[0], x[1])


def test_what_overflows_fp16_is_kept_as_nan():
    k = torch.tensor([65519.996, 65520.0, 65536.0, 1e30, INF, NAN, 65504.0, 0.0]).view(1, 1, 8)
    pages = assert_written(k, -k)
    lost = torch.tensor([False, True, True, True, True, True, False, False])
    for tensor in pages:
        assert torch.equal(tensor[0, 0, 0].isnan(), lost) and torch.equal(tensor[0, 0, 0].isfinite(), ~lost)


def assert_written(k: Tensor, v: Tensor) -> list[Tensor]:
    """[rows, kv_heads, head_dim]; rows of one Seat. Returns the Pages, which agree with the reference's."""
    count, heads, dim = k.shape
    pages = tuple(range(-(-count // 32)))
    rows = BatchRows.of([SeatRows(pages, 0, count)])
    expected = [torch.zeros(len(pages), heads, 32, dim).half() for _ in "kv"]
    reference.write_kv(k, v, rows, *expected)
    for kernels in engines(1):
        found = [torch.zeros_like(tensor) for tensor in expected]
        kernels.write_kv(k, v, rows, *found)
        assert all(map(agree, found, expected)), say(kernels)
    return found


# Not finite


@pytest.mark.parametrize("poison", [*POISON, 3e38])
@pytest.mark.parametrize("channel", [0, 63, 64, 99])
def test_a_poisoned_row_ends_as_in_the_reference_and_harms_no_other(poison: float, channel: int):
    numbers = Numbers(1)
    clean, weight, matrix = numbers.normal(9, 100), numbers.normal(100), numbers.linear(70, 100, True)
    dirty, panels = clean.clone(), pack(matrix)
    dirty[4, channel] = poison
    others = [0, 1, 2, 3, 5, 6, 7, 8]

    def steps(kernels: Kernels, x: Tensor) -> dict[str, Tensor]:
        quantized = kernels.quantize(x, GROUP)
        normed = kernels.norm_quantize(x, weight, 1e-5, GROUP)
        gated = kernels.gated_quantize(torch.cat([x, x], 1), GROUP)
        linear = matrix if kernels.layout == "rows" else panels
        return {
            "quantize": quantized.scale,
            "linear": kernels.linear(quantized, linear),
            "norm": kernels.norm(x, weight, 1e-5),
            "norm_quantize": normed.scale,
            "norm and linear": kernels.linear(normed, linear),
            "gated_quantize": gated.scale,
            "gate and linear": kernels.linear(gated, linear),
            "rope": kernels.rope(x.view(9, 1, 100), clean[:, :50].contiguous(), clean[:, 50:].contiguous()).flatten(1),
        }

    expected = steps(reference, dirty)
    for kernels in engines(1, 2):
        found, undisturbed = steps(kernels, dirty), steps(kernels, clean)
        for name, y in found.items():
            assert agree(y, expected[name]), f"{name}, {say(kernels)}"
            assert same_bits(y[others], undisturbed[name][others]), f"{name}, {say(kernels)}"
        if poison != 3e38:
            assert not found["linear"][4].isfinite().any() and not found["norm and linear"][4].isfinite().any()


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("where", ["q", "k", "v"])
@pytest.mark.parametrize("position", [0, 5, 31, 40, 63])
def test_attention_to_what_is_not_finite(where: str, poison: float, position: int):
    """One Seat has it, at one of its tokens; the others decode, and one has a Chunk."""
    numbers = Numbers(2)
    plans = [(63, 1), (63, 1), (20, 7), (0, 1)]
    rows = numbers.batch(plans)
    k, v = numbers.kv(rows, num_pages(plans), 2, 24, written=True)
    q = numbers.normal(rows.count, 4, 24)
    clean = q.clone(), k.clone(), v.clone()
    if where == "q":
        q[1, 3, 7] = poison
    else:
        pages = k if where == "k" else v
        pages[rows.seats[1].pages[position // 32], 1, position % 32, 11] = poison
    for window in (None, 30):
        expected = reference.attention(q, rows, k, v, window)
        for kernels in engines(1, 2):
            found = kernels.attention(q, rows, k, v, window)
            undisturbed = kernels.attention(clean[0], rows, *clean[1:], window)
            assert agree(found, expected), say(kernels)
            assert same_bits(found[[0, *range(2, 10)]], undisturbed[[0, *range(2, 10)]]), say(kernels)


@pytest.mark.parametrize("poison", [*POISON, 3e38, 1e30])
@pytest.mark.parametrize("row", [0, 1, 6, 9])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_block_with_a_poisoned_row(poison: float, row: int, qk_norm: bool):
    case = BlockCase(3, 90, 80, BlockShape(4, 2, 24, 1e-5), ((63, 1), (20, 7), (0, 1), (5, 4)), True, qk_norm).make()
    clean, dirty, theirs = case.fresh(), case.fresh(), case.fresh()
    dirty.x[row, 17] = poison  # x is shared by all of them
    expected = run_block(reference, theirs)
    before = case.x.clone()
    before[row, 17] = 0.5
    ends = [0, 1, 8, 9, 13]  # of the Seats' rows
    seat = max(i for i in range(4) if ends[i] <= row)
    strangers = [i for i in range(13) if not ends[seat] <= i < ends[seat + 1]]
    later = list(range(row, ends[seat + 1]))  # see its keys and values
    for kernels in engines(1, 2):
        ours, quiet = dirty.fresh(), clean.fresh().with_rows(range(13), case.rows)
        quiet.x.copy_(before)
        found, undisturbed = run_block(kernels, ours), run_block(kernels, quiet)
        assert same_bits(found[strangers], undisturbed[strangers]), say(kernels)
        assert agree(found[later], expected[later]), say(kernels)
        assert agree(ours.k_pages, theirs.k_pages) and agree(ours.v_pages, theirs.v_pages), say(kernels)
        if poison in POISON or poison != poison:
            assert not found[row].isfinite().all(), say(kernels)


# The float mode


@contextmanager
def flush_to_zero() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def rounding_upward() -> Iterator[None]:
    library = ctypes.CDLL(None)
    assert library.fegetround() == 0, "not to nearest, which is 0 everywhere"
    upward = {"x86_64": 0x800, "aarch64": 0x400000}
    library.fesetround(upward[platform.machine()])
    try:
        yield
    finally:
        library.fesetround(0)


def mode() -> tuple[float, float]:
    """What this thread makes of a subnormal, and of a number that lies between two."""
    least = torch.tensor(1e-40) * torch.tensor(1.0)
    return least.item(), (torch.tensor(1.0) + torch.tensor(2.0**-30)).item()


@pytest.mark.parametrize("strange", [flush_to_zero, rounding_upward])
def test_the_float_mode_of_the_caller_is_neither_used_nor_changed(strange: Callable[[], Any]):
    """A library that was built with -ffast-math sets it; threads that begin then inherit it."""
    from kernels import native

    numbers = Numbers(4)
    tiny, weight = numbers.floats("tiny", 40, 150), numbers.normal(150)
    x = torch.cat([tiny, numbers.floats("magnitudes", 40, 150).clamp(-1e9, 1e9), numbers.normal(20, 150)])
    matrix = numbers.linear(150, 150, True, subnormal=True)
    matrix.bias.mul_(1e-40)
    panels, case = pack(matrix), BlockCase(5, 150, 100, BlockShape(4, 2, 24, 1e-5), ((5, 1), (0, 60))).make()
    case.x.mul_(2.0**-120)

    def steps(kernels: Kernels) -> list[Tensor]:
        linear = matrix if kernels.layout == "rows" else panels
        q, nq = kernels.quantize(x, GROUP), kernels.norm_quantize(x, weight, 0.0, GROUP)
        small = Quantized(q.values, torch.full_like(q.scale, 2.0**-110))  # products that are subnormals
        gated = kernels.gated_quantize(x, GROUP)
        own = case.fresh()
        y = run_block(kernels, own)
        turned = kernels.rope(x.view(100, 1, 150), x[:, :75].contiguous(), x[:, 75:].contiguous())
        return [
            *(q.values, q.scale, nq.values, nq.scale, gated.values, gated.scale, turned, y, own.k_pages, own.v_pages),
            kernels.norm(x, weight, 0.0),
            kernels.linear(small, linear),
            kernels.embedding_rows(linear, torch.arange(150)),
        ]

    expected = steps(reference)
    assert (expected[-2].abs() < 2.0**-126).float().mean() > 0.3, "nothing here to be flushed"
    plain = mode()
    for name in native.available():
        for threads in (1, 2):
            kernels = native.open(name, threads)
            with strange():
                before = mode()
                inheriting = native.open(name, threads)
                found = [steps(each) for each in (kernels, inheriting) for _ in range(threads * 2)]
                after = mode()
            assert before == after != plain, say(kernels)
            assert mode() == plain
            for outcome in found:
                assert all(map(agree, outcome, expected)), say(kernels)


def test_top_k_refuses_what_has_no_order():
    logits = torch.tensor([[float("nan"), 1.0, 3.0]])
    for kernels in (reference, *engines(1)):
        for k in (1, 2):
            with pytest.raises(ValueError, match="NaN"):
                kernels.top_k(logits, k)
