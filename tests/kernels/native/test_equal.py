"""Every kernel of every variant, at one thread and at two, against the reference: byte for byte, for random shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import reference
from kernels.panels import pack
from kernels.types import GROUP, BatchRows, SeatRows
from tests.support.operands import (
    KINDS,
    Numbers,
    SeatPlan,
    examples,
    head_dims,
    kinds,
    num_pages,
    row_counts,
    seat_plans,
    seeds,
    softcaps,
    widths,
    windows,
)
from tests.support.twins import engines, same_bits, same_quantized, say

pytest.importorskip("shoal_native", reason="the native kernels are not installed")


@given(seeds, row_counts, widths, kinds)
@examples(60)
def test_quantize(seed: int, rows: int, width: int, kind: str):
    x = Numbers(seed).floats(kind, rows, width)
    expected = reference.quantize(x, GROUP)
    for kernels in engines(1, 2):
        assert same_quantized(kernels.quantize(x, GROUP), expected), say(kernels)


def check_linear(seed: int, rows: int, width: int, out: int, bias: bool, subnormal: bool, kind: str = "plain") -> None:
    numbers = Numbers(seed)
    weight = numbers.linear(out, width, bias, subnormal)
    x = reference.quantize(numbers.floats(kind, rows, width), GROUP)
    expected, panels = reference.linear(x, weight), pack(weight)
    for kernels in engines(1, 2):
        assert same_bits(kernels.linear(x, panels), expected), say(kernels)


@given(seeds, row_counts, widths, st.integers(1, 300), st.booleans(), st.booleans(), kinds)
@examples(60)
def test_linear(seed: int, rows: int, width: int, out: int, bias: bool, subnormal: bool, kind: str):
    check_linear(seed, rows, width, out, bias, subnormal, kind)


@pytest.mark.parametrize("rows", [*range(1, 15), 96, 97, 130])
def test_linear_with_every_size_of_tile(rows: int):
    check_linear(rows, rows, 130, 70, bias=True, subnormal=False)


def test_linear_with_the_largest_products():
    """Integers as large as they get, of one sign, in every group: the largest dot products that there are."""
    numbers = Numbers(0)
    weight, x = numbers.linear(65, 200), torch.full((7, 200), 3.0)
    for sign in (1, -1):
        weight.weight[:, :200] = 127 * sign
        quantized = reference.quantize(x, GROUP)
        weight.prepared.clear()
        expected = reference.linear(quantized, weight)
        for kernels in engines(1):
            assert same_bits(kernels.linear(quantized, pack(weight)), expected), say(kernels)


@given(seeds, row_counts, widths, kinds, st.sampled_from([1e-5, 1e-6, 0.0]))
@examples(60)
def test_norm_and_norm_quantize(seed: int, rows: int, width: int, kind: str, eps: float):
    numbers = Numbers(seed)
    x, weight = numbers.floats(kind, rows, width), numbers.normal(width)
    if eps == 0.0:
        x = x.abs() + 1.0  # 0 / 0 is test_hard_numbers'
    expected, quantized = reference.norm(x, weight, eps), reference.norm_quantize(x, weight, eps, GROUP)
    for kernels in engines(1, 2):
        assert same_bits(kernels.norm(x, weight, eps), expected), say(kernels)
        assert same_quantized(kernels.norm_quantize(x, weight, eps, GROUP), quantized), say(kernels)


@given(seeds, st.integers(1, 20), st.integers(1, 5), head_dims)
@examples(15)
def test_norm_of_heads(seed: int, rows: int, heads: int, head_dim: int):
    numbers = Numbers(seed)
    x, weight = numbers.normal(rows, heads, head_dim), numbers.normal(head_dim)
    expected = reference.norm(x, weight, 1e-6)
    for kernels in engines(1, 2):
        assert same_bits(kernels.norm(x, weight, 1e-6), expected), say(kernels)


@given(seeds, row_counts, widths, kinds)
@examples(60)
def test_gated_quantize(seed: int, rows: int, inner: int, kind: str):
    x = Numbers(seed).floats(kind, rows, 2 * inner)
    if kind == "magnitudes":
        x = x.clamp(-1e9, 1e9)  # overflow is test_hard_numbers'
    expected = reference.gated_quantize(x, GROUP)
    for kernels in engines(1, 2):
        assert same_quantized(kernels.gated_quantize(x, GROUP), expected), say(kernels)


def test_gates_of_every_size_give_the_same_silu():
    """Where exp changes its ways: near 0, near -88 and 88, and at the steps of k."""
    edges = torch.cat([torch.linspace(-90, 90, 12000), torch.arange(-180, 181) * 0.5 * 0.6931472, torch.zeros(1)])
    gate = torch.cat([edges, torch.nextafter(edges, torch.tensor(200.0))])
    gate = torch.nn.functional.pad(gate, (0, -len(gate) % 64)).view(-1, 1).repeat(1, 64)  # one value a group
    x = torch.cat([gate, torch.ones_like(gate)], 1)
    expected = reference.gated_quantize(x, GROUP)
    for kernels in engines(1):
        assert same_quantized(kernels.gated_quantize(x, GROUP), expected), say(kernels)


@given(seeds, row_counts, st.integers(1, 9), st.integers(1, 70), kinds)
@examples(40)
def test_rope(seed: int, rows: int, heads: int, half: int, kind: str):
    numbers = Numbers(seed)
    x, angle = numbers.floats(kind, rows, heads, 2 * half), numbers.uniform(rows, half) * 6.28
    expected = reference.rope(x, angle.cos(), angle.sin())
    for kernels in engines(1, 2):
        assert same_bits(kernels.rope(x, angle.cos(), angle.sin()), expected), say(kernels)


@given(seeds, row_counts, widths, st.integers(1, 200), st.booleans())
@examples(40)
def test_embedding_rows(seed: int, rows: int, width: int, vocab: int, subnormal: bool):
    numbers = Numbers(seed)
    table, ids = numbers.linear(vocab, width, False, subnormal), numbers.integers(0, vocab - 1, rows)
    expected, panels = reference.embedding_rows(table, ids), pack(table)
    for kernels in engines(1, 2):
        assert same_bits(kernels.embedding_rows(panels, ids), expected), say(kernels)


@given(
    seeds, seat_plans(), st.integers(1, 4), head_dims, st.sampled_from(["plain", "sparse", "ties", "halves", "tiny"])
)
@examples(40)
def test_write_kv(seed: int, plans: list[SeatPlan], kv_heads: int, head_dim: int, kind: str):
    numbers = Numbers(seed)
    rows = numbers.batch(plans)
    pages = numbers.kv(rows, num_pages(plans), kv_heads, head_dim, written=False)
    shape = rows.count, kv_heads, head_dim
    if kind == "halves":  # every exponent of FP16 and some below, and what lies in the middle between two
        k, v = (
            torch.ldexp(numbers.integers(-4095, 4095, *shape).float(), numbers.integers(-30, 3, *shape)) for _ in "kv"
        )
    else:
        k, v = (numbers.floats(kind, *shape) for _ in "kv")
    expected = [t.clone() for t in pages]
    reference.write_kv(k, v, rows, *expected)
    for kernels in engines(1, 2):
        found = [t.clone() for t in pages]
        kernels.write_kv(k, v, rows, *found)
        assert all(map(same_bits, found, expected)), say(kernels)


@given(seeds, st.integers(1, 20), widths, st.sampled_from(["plain", "sparse", "ties", "magnitudes"]), st.data())
@examples(60)
def test_top_k(seed: int, rows: int, vocab: int, kind: str, data: st.DataObject):
    """Of equals, -0 and +0 among them, the lower id first; minus infinity is a logit like others."""
    numbers, k = Numbers(seed), data.draw(st.integers(1, vocab))
    logits = numbers.floats(kind, rows, vocab)
    logits[numbers.uniform(rows, vocab) < 0.1] = -torch.inf
    expected = reference.top_k(logits, k)
    for kernels in engines(1, 2):
        assert all(map(same_bits, kernels.top_k(logits, k), expected)), say(kernels)


def test_top_k_of_none_wanted():
    for kernels in engines(1):
        values, ids = kernels.top_k(torch.ones(3, 5), 0)
        assert values.shape == ids.shape == (3, 0)


def test_top_k_of_a_vocabulary():
    logits = Numbers(0).normal(3, 32000)
    logits[1] = logits[1].sort().values  # every one is larger than those before
    for k in (1, 50, 32000):
        expected = reference.top_k(logits, k)
        for kernels in engines(1):
            assert all(map(same_bits, kernels.top_k(logits, k), expected)), say(kernels)


def check_attention(
    seed: int,
    plans: list[SeatPlan],
    kv_heads: int,
    ratio: int,
    head_dim: int,
    window: int | None,
    softcap: float | None,
    scale: float = 1.0,
) -> None:
    numbers = Numbers(seed)
    rows = numbers.batch(plans)
    k, v = numbers.kv(rows, num_pages(plans), kv_heads, head_dim, written=True)
    q = numbers.normal(rows.count, kv_heads * ratio, head_dim) * scale
    expected = reference.attention(q, rows, k, v, window, softcap)
    assert expected.isfinite().all()
    for kernels in engines(1, 2):
        assert same_bits(kernels.attention(q, rows, k, v, window, softcap), expected), say(kernels)


attention_shapes = st.tuples(st.integers(1, 4), st.integers(1, 8), head_dims)


@given(seeds, attention_shapes, windows, softcaps, st.sampled_from([0.0, 0.3, 1.0, 20.0]), st.data())
@examples(60)
def test_attention(
    seed: int,
    shape: tuple[int, int, int],
    window: int | None,
    softcap: float | None,
    scale: float,
    data: st.DataObject,
):
    kv_heads, ratio, head_dim = shape
    most_rows = max(1, min(130, 30000 // (kv_heads * ratio * head_dim)))
    plans = data.draw(seat_plans(most_rows))
    check_attention(seed, plans, kv_heads, ratio, head_dim, window, softcap, scale)


@pytest.mark.parametrize("ratio", [*range(1, 9), 16, 17, 20])
def test_attention_with_every_number_of_heads_that_share(ratio: int):
    check_attention(ratio, [(40, 1), (0, 11), (31, 2), (63, 1)], 2, ratio, 24, None, None)


@pytest.mark.parametrize("head_dim", [2, 8, 16, 18, 24, 32, 48, 64, 80, 96, 112, 128, 256])
def test_attention_with_every_head_dim(head_dim: int):
    check_attention(head_dim, [(40, 3), (0, 5), (32, 1)], 1, 3, head_dim, 30, 20.0)


@pytest.mark.parametrize(
    ("position", "count", "ratio", "head_dim", "window", "softcap"),
    [
        (2999, 1, 4, 64, None, None),
        (2968, 5, 1, 32, None, 30.0),
        (2000, 3, 7, 24, 1025, None),
        (1023, 2, 8, 128, 31, None),
        (999, 20, 2, 80, None, None),
    ],
)
def test_attention_over_a_long_context(
    position: int, count: int, ratio: int, head_dim: int, window: int | None, softcap: float | None
):
    check_attention(position, [(position, count), (position // 3, 1)], 1, ratio, head_dim, window, softcap)


def test_attention_on_pages_of_other_seats_in_between():
    """A Seat reads its own Pages in its own order, however they lie."""
    numbers = Numbers(5)
    rows = BatchRows.of([SeatRows((9, 0, 4, 7), 100, 3), SeatRows((8, 1, 3), 80, 1), SeatRows((5,), 0, 1)])
    k, v = numbers.kv(rows, 10, 2, 32, written=True)
    q = numbers.normal(rows.count, 6, 32)
    expected = reference.attention(q, rows, k, v, None)
    for kernels in engines(1, 2):
        assert same_bits(kernels.attention(q, rows, k, v, None), expected), say(kernels)


def test_the_kinds_of_numbers_are_what_they_say():
    x = {kind: Numbers(0).floats(kind, 20, 130) for kind in KINDS}
    assert all(values.isfinite().all() for values in x.values())
    zeros = x["sparse"][x["sparse"] == 0]
    assert zeros.signbit().any() and not zeros.signbit().all()
    assert (x["tiny"].abs() < 2.0**-126).float().mean() > 0.9
    steps = reference.quantize(x["ties"], GROUP).scale
    assert (steps[:, 0] == 1.0).all() and (x["ties"].frac().abs() == 0.5).any()
