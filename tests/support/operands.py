"""Random operands of the kernels: tensors of a seed, matrices, Batches on scattered Pages, whole Blocks; and hypothesis
strategies for their shapes.

Hypothesis draws shapes and a seed, so that it shrinks what matters; the numbers come from torch's generator of that
seed. Slots of a Page that nobody wrote hold NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.types import GROUP, PAGE_SIZE, BatchRows, BlockShape, Linear, SeatRows
from model.parameters import BlockWeights, in_layout

SeatPlan = tuple[int, int]  # position, count

seeds = st.integers(0, 2**32)
row_counts = st.one_of(st.integers(1, 13), st.integers(1, 130))
widths = st.integers(1, 300)
head_dims = st.sampled_from([8, 16, 24, 32, 64, 80, 96, 128])
windows = st.one_of(st.none(), st.integers(1, 70))
softcaps = st.sampled_from([None, None, 0.75, 30.0])
positions = st.one_of(st.sampled_from([0, 1, 31, 32, 63]), st.integers(0, 130))


def examples(count: int) -> Callable:
    """The same ``count`` examples in every run."""
    return settings(max_examples=count, deadline=None, derandomize=True)


class Numbers:
    """torch's generator of a seed."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """int64 from ``low`` to ``high``, both included."""
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def order(self, count: int) -> list[int]:
        return torch.randperm(count, generator=self.generator).tolist()

    def floats(self, kind: str, *shape: int) -> Tensor:
        """``kind`` is one of KINDS; every one is finite, and so are products with numbers about 1."""
        x = self.normal(*shape)
        if kind == "sparse":  # zeros of both signs, and rows' groups of nothing else
            x = torch.where(self.uniform(*shape) < 0.7, torch.copysign(torch.zeros(()), x), x)
            return x * (self.uniform(*shape[:-1], 1) < 0.7)
        if kind == "ties":  # halves of an INT8 step where a group's largest is 127
            x = self.integers(-254, 254, *shape) / 2.0
            x[..., :: GROUP // 2] = 127.0
        elif kind == "outliers":
            x = torch.where(self.uniform(*shape) < 0.02, x * 100.0, x)
        elif kind == "tiny":  # subnormals, some too small for an INT8 step of their own
            x = x * 2.0**-130
        elif kind == "magnitudes":  # a row's differ from its neighbours'
            x = torch.ldexp(x, self.integers(-140, 40, *shape[:-1], 1))
        return x

    def linear(self, out: int, width: int, bias: bool = False, subnormal: bool = False) -> Linear:
        """``subnormal``: scales that are subnormals of FP16, zero among them."""
        groups = -(-width // GROUP)
        weight = torch.zeros(out, groups * GROUP, dtype=torch.int8)
        weight[:, :width] = self.integers(-127, 127, out, width)
        if subnormal:
            scale = self.integers(0, 1023, out, groups).to(torch.int16).view(torch.float16)
        else:
            scale = (self.uniform(out, groups) * 0.002 + 0.0002).half()
        return Linear(weight, scale, self.normal(out) if bias else None, width)

    def batch(self, plans: Sequence[SeatPlan]) -> BatchRows:
        """Each Seat on Pages of its own, which lie in no order, with Pages between them that are nobody's."""
        needs = [-(-(position + count) // PAGE_SIZE) for position, count in plans]
        order = self.order(num_pages(plans))
        seats: list[SeatRows] = []
        for (position, count), need in zip(plans, needs, strict=True):
            seats.append(SeatRows(tuple(order[:need]), position, count))
            order = order[need:]
        return BatchRows.of(seats)

    def kv(self, rows: BatchRows, pages: int, kv_heads: int, head_dim: int, written: bool) -> tuple[Tensor, Tensor]:
        """Keys and values before the Batch, or with its own rows ``written``."""
        pair = torch.full((2, pages, kv_heads, PAGE_SIZE, head_dim), torch.nan, dtype=torch.float16)
        for seat in rows.seats:
            tokens = torch.arange(seat.position + (seat.count if written else 0))
            page = torch.tensor(seat.pages)[tokens // PAGE_SIZE]
            new = self.normal(2, len(tokens), kv_heads, head_dim).half()
            pair.transpose(2, 3)[:, page, tokens % PAGE_SIZE] = new
        return pair[0], pair[1]


KINDS = ["plain", "sparse", "ties", "outliers", "tiny", "magnitudes"]
kinds = st.sampled_from(KINDS)


def num_pages(plans: Sequence[SeatPlan]) -> int:
    """What ``plans`` need, and some more."""
    return sum(-(-(position + count) // PAGE_SIZE) for position, count in plans) + 3


@st.composite
def seat_plans(draw: st.DrawFn, most_rows: int = 130, most_seats: int = 5) -> list[SeatPlan]:
    plans: list[SeatPlan] = []
    left = most_rows
    for _ in range(draw(st.integers(1, most_seats))):
        if left > 0:
            plans.append((draw(positions), draw(st.one_of(st.just(1), st.integers(1, left)))))
            left -= plans[-1][1]
    return plans


@dataclass(frozen=True)
class BlockCase:
    """A Block and a Batch for it; ``make`` builds the operands, always the same ones."""

    seed: int
    hidden: int
    inner: int
    shape: BlockShape
    plans: tuple[SeatPlan, ...]
    biases: bool = False
    qk_norm: bool = False

    def make(self) -> BlockOperandsOnPages:
        numbers, shape = Numbers(self.seed), self.shape
        heads, dim = shape.num_heads, shape.head_dim
        qkv = (heads + 2 * shape.num_kv_heads) * dim
        weights = BlockWeights(
            numbers.normal(self.hidden),
            numbers.linear(qkv, self.hidden, self.biases),
            numbers.linear(self.hidden, heads * dim, self.biases),
            numbers.normal(self.hidden),
            numbers.linear(2 * self.inner, self.hidden, self.biases),
            numbers.linear(self.hidden, self.inner, self.biases),
            numbers.normal(dim) if self.qk_norm else None,
            numbers.normal(dim) if self.qk_norm else None,
        )
        rows = numbers.batch(self.plans)
        k, v = numbers.kv(rows, num_pages(self.plans), shape.num_kv_heads, dim, written=False)
        angle = numbers.uniform(rows.count, dim // 2) * 6.28
        x = numbers.floats("outliers", rows.count, self.hidden)
        return BlockOperandsOnPages(
            shape, weights, in_layout(weights, "panels"), x, rows, angle.cos(), angle.sin(), k, v
        )


@dataclass(frozen=True, eq=False)
class BlockOperandsOnPages:
    """What ``block`` takes, its weights in both layouts."""

    shape: BlockShape
    weights: BlockWeights
    packed: BlockWeights
    x: Tensor
    rows: BatchRows
    cos: Tensor
    sin: Tensor
    k_pages: Tensor
    v_pages: Tensor

    def fresh(self) -> BlockOperandsOnPages:
        """The same with Pages of its own, as they were made."""
        return replace(self, k_pages=self.k_pages.clone(), v_pages=self.v_pages.clone())

    def with_rows(self, chosen: Sequence[int], rows: BatchRows) -> BlockOperandsOnPages:
        """Some rows of this Batch as the Batch ``rows``; the same Pages."""
        some = list(chosen)
        return replace(self, x=self.x[some], rows=rows, cos=self.cos[some], sin=self.sin[some])


@st.composite
def block_cases(draw: st.DrawFn, most_work: int = 30000) -> BlockCase:
    """``most_work`` bounds rows times width of attention, which is what the reference is slow at."""
    kv_heads, dim = draw(st.integers(1, 3)), draw(head_dims)
    heads = kv_heads * draw(st.integers(1, 8))
    return BlockCase(
        draw(seeds),
        draw(st.integers(1, 200)),
        draw(st.integers(1, 200)),
        BlockShape(heads, kv_heads, dim, 1e-5, draw(windows), draw(softcaps)),
        tuple(draw(seat_plans(max(1, min(130, most_work // (heads * dim)))))),
        draw(st.booleans()),
        draw(st.booleans()),
    )
