"""Paged attention on a device against the definition, byte for byte; and everything that must not matter to it."""

from __future__ import annotations

import math

import pytest
import torch

from kernels import reference
from kernels.types import PAGE_SIZE, BatchRows, SeatRows
from tests.support.triton_device import device_or_skip, same_bits, there

DEVICE = device_or_skip()

from kernels import triton_attention  # noqa: E402


class Pool:
    """Pages whose unwritten slots hold NaN, and random queries."""

    def __init__(self, kv_heads: int, head_dim: int, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)
        self.kv_heads, self.head_dim = kv_heads, head_dim
        shape = (12, kv_heads, PAGE_SIZE, head_dim)
        self.k_pages, self.v_pages = torch.full(shape, math.nan).half(), torch.full(shape, math.inf).half()
        self.free = torch.randperm(12, generator=self.generator).tolist()

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def seat(self, position: int, count: int) -> SeatRows:
        """A Seat whose tokens up to ``position + count`` are written."""
        tokens = position + count
        pages = tuple(self.free.pop() for _ in range(-(-tokens // PAGE_SIZE)))
        k, v = self.random(2, tokens, self.kv_heads, self.head_dim)
        reference.write_kv(k, v, BatchRows.of([SeatRows(pages, 0, tokens)]), self.k_pages, self.v_pages)
        return SeatRows(pages, position, count)

    def attend(self, q: torch.Tensor, seats: list[SeatRows], window: int | None = None, softcap: float | None = None):
        q, k_pages, v_pages = there((q, self.k_pages, self.v_pages), DEVICE)
        return triton_attention.attention(q, BatchRows.of(seats), k_pages, v_pages, window, softcap).cpu()


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "window", "softcap"),
    [
        (1, 1, 24, None, None),
        (6, 2, 32, 40, None),
        (8, 1, 64, None, 30.0),
        (3, 3, 24, 1, 5.0),
        (4, 1, 80, 33, None),
        (2, 1, 128, 64, 2.5),
    ],
)
def test_every_shape_has_the_bits_of_the_definition(
    heads: int, kv_heads: int, head_dim: int, window: int | None, softcap: float | None
):
    pool = Pool(kv_heads, head_dim, heads)
    seats = [pool.seat(63, 2), pool.seat(0, 1), pool.seat(96, 1)]
    q = pool.random(4, heads, head_dim) * 3
    expected = reference.attention(q, BatchRows.of(seats), pool.k_pages, pool.v_pages, window, softcap)
    assert same_bits(pool.attend(q, seats, window, softcap), expected)


def test_neighbours_and_chunks_change_no_bit():
    pool = Pool(2, 24, 1)
    seats = [pool.seat(30, 4), pool.seat(64, 1)]
    q = pool.random(5, 4, 24)
    together = pool.attend(q, seats, 40)
    assert same_bits(pool.attend(q[4:], seats[1:], 40), together[4:])
    pieces = [SeatRows(seats[0].pages, 30, 1), SeatRows(seats[0].pages, 31, 3)]
    assert same_bits(pool.attend(q[:1], pieces[:1], 40), together[:1])
    assert same_bits(pool.attend(q[1:4], pieces[1:], 40), together[1:4])


def test_scores_far_apart_and_none_at_all_are_the_definitions():
    pool = Pool(1, 24, 2)
    seats = [pool.seat(40, 1)]
    for factor in (1e4, 1e-30, 0.0):
        q = pool.random(1, 2, 24) * factor
        expected = reference.attention(q, BatchRows.of(seats), pool.k_pages, pool.v_pages, None)
        assert same_bits(pool.attend(q, seats), expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("poison", [70000.0, -math.inf, math.nan])
def test_a_key_or_value_beyond_fp16_makes_its_own_row_nan_and_no_other_seats(poison: float):
    pool = Pool(1, 24, 3)
    good, bad = pool.seat(5, 1), pool.seat(34, 1)
    q = pool.random(2, 2, 24)
    q[:, :, 3] = -math.copysign(1.0, poison)
    clean = pool.attend(q, [good, bad])
    for which in range(2):
        k, v = pool.random(2, 1, 1, 24)
        (k, v)[which][0, 0, 3] = poison
        k_pages, v_pages = there((pool.k_pages.clone(), pool.v_pages.clone()), DEVICE)
        rows = BatchRows.of([bad])
        triton_attention.write_kv(*there((k, v), DEVICE), rows, k_pages, v_pages)
        dirty = triton_attention.attention(q.to(DEVICE), BatchRows.of([good, bad]), k_pages, v_pages, None).cpu()
        assert same_bits(dirty[0], clean[0])
        assert not torch.isfinite(dirty[1]).all()


def test_keys_and_values_go_into_their_own_slots_alone():
    pool = Pool(2, 24, 4)
    rows, (k, v) = BatchRows.of([SeatRows((4, 9), 30, 5)]), pool.random(2, 5, 2, 24)
    k[0, 0, 0] = -0.0
    k_pages, v_pages = there((pool.k_pages.clone(), pool.v_pages.clone()), DEVICE)
    triton_attention.write_kv(*there((k, v), DEVICE), rows, k_pages, v_pages)
    reference.write_kv(k, v, rows, pool.k_pages, pool.v_pages)
    assert same_bits(k_pages, pool.k_pages)
    assert same_bits(v_pages, pool.v_pages)


def test_a_batchs_rows_are_moved_to_the_device_once():
    rows = BatchRows.of([SeatRows((7, 3), 31, 2), SeatRows((5,), 0, 1)])
    moved = triton_attention.DeviceRows.of(rows, DEVICE)
    assert triton_attention.DeviceRows.of(rows, DEVICE) is moved
    assert moved.slots.tolist() == [7 * 32 + 31, 3 * 32, 5 * 32]
    assert moved.positions.tolist() == [31, 32, 0]
    assert [moved.pages.tolist()[first] for first in moved.first.tolist()] == [7, 7, 5]
