"""Attention against the walk of its docstring, one row, one head and one Page at a time; and everything that must not
matter to it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kernels import paged_attention
from kernels.elementary import LOWEST, exp, lane_sum, root, tanh
from kernels.paged_attention import attention, write_kv
from kernels.types import PAGE_SIZE, BatchRows, SeatRows

HEADS, KV_HEADS, HEAD_DIM, PAGES = 4, 2, 24, 40


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def naive(
    q: torch.Tensor,
    seat: SeatRows,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    window: int | None,
    softcap: float | None = None,
) -> torch.Tensor:
    """The docstring of ``paged_attention`` as a program."""
    scale = 1.0 / root(torch.tensor(float(HEAD_DIM)))
    rows = []
    for position, row in zip(range(seat.position, seat.position + seat.count), q, strict=True):
        heads = []
        for head in range(HEADS):
            kv_head = head // (HEADS // KV_HEADS)
            m, total, acc = torch.tensor(LOWEST), torch.tensor(0.0), torch.zeros(HEAD_DIM)
            for index, page in enumerate(seat.pages):
                tokens = torch.arange(index * PAGE_SIZE, (index + 1) * PAGE_SIZE)
                visible = (
                    (tokens <= position) if window is None else (tokens <= position) & (tokens > position - window)
                )
                if not visible.any():
                    continue
                k, v = k_pages[page, kv_head].float(), v_pages[page, kv_head].float()
                s = lane_sum(row[head] * k) * scale
                if softcap is not None:
                    cap = torch.tensor(softcap)
                    s = cap * tanh(torch.div(s, cap))
                s = torch.where(visible, s, torch.tensor(-math.inf))
                larger = torch.maximum(m, s.max())
                alpha, p = exp(m - larger), torch.where(visible, exp(s - larger), torch.tensor(0.0))
                v = torch.where(visible[:, None], v, torch.tensor(0.0))
                total = total * alpha + lane_sum(p)
                acc = acc * alpha + lane_sum(p[:, None] * v, 0)
                m = larger
            heads.append(acc / total)
        rows.append(torch.cat(heads))
    return torch.stack(rows)


class Pool:
    """Pages full of other people's numbers, NaN among them, and queries for any Seat."""

    def __init__(self, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)
        shape = (PAGES, KV_HEADS, PAGE_SIZE, HEAD_DIM)
        self.k_pages, self.v_pages = torch.full(shape, math.nan).half(), torch.full(shape, math.inf).half()
        self.free = torch.randperm(PAGES, generator=self.generator).tolist()

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def seat(self, position: int, count: int, spare: int = 0) -> SeatRows:
        """A Seat whose tokens up to ``position + count`` are written."""
        needed = -(-(position + count) // PAGE_SIZE) + spare
        pages = tuple(self.free.pop() for _ in range(needed))
        tokens = position + count
        rows = BatchRows.of([SeatRows(pages, 0, tokens)])
        write_kv(
            self.random(tokens, KV_HEADS, HEAD_DIM),
            self.random(tokens, KV_HEADS, HEAD_DIM),
            rows,
            self.k_pages,
            self.v_pages,
        )
        return SeatRows(pages, position, count)

    def attend(
        self, q: torch.Tensor, seats: list[SeatRows], window: int | None = None, softcap: float | None = None
    ) -> torch.Tensor:
        return attention(q, BatchRows.of(seats), self.k_pages, self.v_pages, window, softcap)

    def texts(self, seat: SeatRows, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The Seat's keys and values as FP32 [kv_heads, tokens, head_dim]."""
        k, v = (torch.cat([t[page] for page in seat.pages], 1)[:, :tokens] for t in (self.k_pages, self.v_pages))
        return k.float(), v.float()


@pytest.mark.parametrize("window", [None, 1, 20, 33, 64])
@pytest.mark.parametrize(("position", "count"), [(0, 1), (0, 5), (30, 4), (63, 1), (64, 1), (90, 20)])
def test_the_vectorised_walk_is_the_naive_walk_to_the_last_bit(position: int, count: int, window: int | None):
    pool = Pool(position)
    seat = pool.seat(position, count, spare=1)
    q = pool.random(count, HEADS, HEAD_DIM) * 3
    assert same_bits(pool.attend(q, [seat], window), naive(q, seat, pool.k_pages, pool.v_pages, window))


@pytest.mark.parametrize("softcap", [0.5, 30.1, 50.0])
@pytest.mark.parametrize(("position", "count", "window"), [(0, 5, None), (30, 4, 20), (64, 1, None), (90, 20, 33)])
def test_the_vectorised_walk_with_a_soft_cap_is_the_naive_walk(
    position: int, count: int, window: int | None, softcap: float
):
    pool = Pool(position)
    seat = pool.seat(position, count, spare=1)
    q = pool.random(count, HEADS, HEAD_DIM) * 9
    expected = naive(q, seat, pool.k_pages, pool.v_pages, window, softcap)
    assert same_bits(pool.attend(q, [seat], window, softcap), expected)
    assert not same_bits(pool.attend(q, [seat], window), expected) or (position + count) == 1


def test_a_soft_cap_follows_its_definition_in_numpy_scalars():
    """``s = cap * tanh(s / cap)``, ``tanh(x) = 1 - 2 / (exp(x + x) + 1)``, for a query that sees two tokens; exp and
    lane_sum have tests of their own.
    """
    f, cap = np.float32, np.float32(3.3)
    pool = Pool(8)
    seat = pool.seat(1, 1)
    q = pool.random(1, HEADS, HEAD_DIM) * 4
    scale = f(1) / np.sqrt(f(HEAD_DIM))
    k, v = pool.texts(seat, 2)

    def power(x: np.float32) -> np.float32:
        return exp(torch.tensor([x])).numpy()[0]

    outs = []
    for head in range(HEADS):
        keys, values = k[head // (HEADS // KV_HEADS)], v[head // (HEADS // KV_HEADS)].numpy()
        s = [lane_sum(q[0, head] * key).numpy()[()] * scale for key in keys]
        s = [cap * (f(1) - f(2) / (power(one / cap + one / cap) + f(1))) for one in s]
        p = [power(one - max(s)) for one in s]
        outs.append((p[0] * values[0] + p[1] * values[1]) / (p[0] + p[1]))
    assert same_bits(pool.attend(q, [seat], softcap=3.3), torch.from_numpy(np.concatenate(outs)).view(1, -1))


def test_no_soft_cap_changes_nothing_and_an_endless_one_almost_nothing():
    pool = Pool(9)
    seat = pool.seat(40, 30)
    q, rows = pool.random(30, HEADS, HEAD_DIM), BatchRows.of([seat])
    plain = attention(q, rows, pool.k_pages, pool.v_pages, None)
    assert same_bits(attention(q, rows, pool.k_pages, pool.v_pages, None, None), plain)
    assert same_bits(attention(q, rows, pool.k_pages, pool.v_pages, None, softcap=None), plain)
    torch.testing.assert_close(pool.attend(q, [seat], softcap=100.0), plain, rtol=0, atol=5e-3)


def test_a_soft_cap_is_that_of_softmax_attention():
    pool = Pool(10)
    seat = pool.seat(40, 30)
    q = pool.random(30, HEADS, HEAD_DIM) * 5
    k, v = (t.repeat_interleave(HEADS // KV_HEADS, 0) for t in pool.texts(seat, 70))
    scores = 2.0 * torch.tanh(q.transpose(0, 1) @ k.transpose(1, 2) / HEAD_DIM**0.5 / 2.0)
    hidden = torch.ones(70, 70, dtype=torch.bool).triu(1)[40:]
    expected = (scores.masked_fill(hidden, -math.inf).softmax(-1) @ v).transpose(0, 1).flatten(1)
    torch.testing.assert_close(pool.attend(q, [seat], softcap=2.0), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("window", [None, 40])
def test_neighbours_in_a_batch_change_no_bit(window: int | None, softcap: float | None):
    pool = Pool(1)
    seats = [pool.seat(70, 1), pool.seat(3, 1), pool.seat(0, 40), pool.seat(100, 1), pool.seat(31, 2), pool.seat(32, 1)]
    q = pool.random(sum(seat.count for seat in seats), HEADS, HEAD_DIM)
    together = pool.attend(q, seats, window, softcap).split([seat.count for seat in seats])
    for mine, seat, row in zip(q.split([seat.count for seat in seats]), seats, together, strict=True):
        assert same_bits(pool.attend(mine, [seat], window, softcap), row)


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("cut", [1, 7, 64])
def test_chunking_changes_no_bit(cut: int, window: int | None):
    pool = Pool(2)
    whole = pool.seat(0, 130)
    q = pool.random(130, HEADS, HEAD_DIM)
    chunks = [SeatRows(whole.pages, start, min(cut, 130 - start)) for start in range(0, 130, cut)]
    pieces = [pool.attend(q[c.position : c.position + c.count], [c], window) for c in chunks]
    assert same_bits(torch.cat(pieces), pool.attend(q, [whole], window))


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("products", [1, 5000, 40000])
def test_the_bound_on_memory_changes_no_bit(monkeypatch: pytest.MonkeyPatch, products: int, softcap: float | None):
    pool = Pool(3)
    seats = [pool.seat(70, 1), pool.seat(3, 1), pool.seat(0, 40), pool.seat(60, 1), pool.seat(50, 1)]
    q = pool.random(44, HEADS, HEAD_DIM)
    expected = pool.attend(q, seats, softcap=softcap)
    monkeypatch.setattr(paged_attention, "_PRODUCTS", products)
    assert same_bits(pool.attend(q, seats, softcap=softcap), expected)


def test_attention_is_softmax_attention():
    pool = Pool(4)
    seat = pool.seat(40, 30)
    q = pool.random(30, HEADS, HEAD_DIM)
    k, v = pool.texts(seat, 70)
    mask = torch.ones(70, 70, dtype=torch.bool).tril()[40:]
    expected = torch.nn.functional.scaled_dot_product_attention(q.transpose(0, 1), k, v, mask, enable_gqa=True)
    torch.testing.assert_close(pool.attend(q, [seat]), expected.transpose(0, 1).flatten(1), rtol=1e-5, atol=1e-5)


def test_huge_and_tiny_scores_stay_finite():
    pool = Pool(5)
    seat = pool.seat(40, 2)
    q = pool.random(2, HEADS, HEAD_DIM)
    for factor in (1e4, 1e-30, 0.0):
        for softcap in (None, 30.0):
            assert torch.isfinite(pool.attend(q * factor, [seat], softcap=softcap)).all()


def test_keys_and_values_are_rounded_to_fp16_in_their_own_slots_alone():
    pool = Pool(6)
    seat = SeatRows((4, 9), 30, 5)
    before = pool.k_pages.clone().view(torch.int16)
    k, v = pool.random(5, KV_HEADS, HEAD_DIM), pool.random(5, KV_HEADS, HEAD_DIM)
    k[0, 0, 0] = -0.0
    write_kv(k, v, BatchRows.of([seat]), pool.k_pages, pool.v_pages)
    written = torch.cat([pool.k_pages[4, :, 30:], pool.k_pages[9, :, :3]], 1).transpose(0, 1)
    assert torch.equal(written.view(torch.int16), k.half().view(torch.int16))
    assert torch.equal(torch.cat([pool.v_pages[4, :, 30:], pool.v_pages[9, :, :3]], 1).transpose(0, 1), v.half())
    after = pool.k_pages.clone().view(torch.int16)
    after[4, :, 30:], after[9, :, :3] = before[4, :, 30:], before[9, :, :3]
    assert torch.equal(after, before)


@pytest.mark.parametrize("poison", [70000.0, -70000.0, math.inf, math.nan])
@pytest.mark.parametrize("which", ["key", "value"])
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_a_key_or_value_beyond_fp16_makes_its_own_row_nan_and_no_other_seats(
    poison: float, which: str, softcap: float | None
):
    pool = Pool(7)
    good, bad = pool.seat(20, 1), pool.seat(34, 1)
    q = pool.random(2, HEADS, HEAD_DIM)
    q[:, :, 3] = -math.copysign(1.0, poison)  # so that an infinite key's score would be -infinity: a token nobody sees
    clean = pool.attend(q, [good, bad], softcap=softcap)
    k, v = pool.random(1, KV_HEADS, HEAD_DIM), pool.random(1, KV_HEADS, HEAD_DIM)
    (k if which == "key" else v)[0, 0, 3] = poison
    write_kv(k, v, BatchRows.of([bad]), pool.k_pages, pool.v_pages)
    dirty = pool.attend(q, [good, bad], softcap=softcap)
    assert same_bits(dirty[0], clean[0])
    assert not torch.isfinite(dirty[1]).all()
