"""Attention over paged FP16 keys and values in Triton: the walk of ``paged_attention``, straight on the Pages.

A program owns one query row and some of the query heads that share a key head, so that a Page's keys serve all of them.
It walks the row's own Pages and nobody else's: what the row's neighbours are, and how many, it never learns. A Page has
32 tokens, two for each of the 16 lanes, so ``lane_sum`` over them is a tree from its first step.

Unlike in the reference, a value counts as 0 for every row that must not see it. That makes a difference only where the
value is NaN, which then stays with the rows that do see it.
"""

# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.elementary import root
from kernels.triton_elementary import LANES, LOWEST, exp, lane_tree, launch, power_of_two, tanh
from kernels.triton_rows import store_kv
from kernels.types import PAGE_SIZE, BatchRows

_PRODUCTS = 8192  # of p and v that a program holds at a time: heads * PAGE_SIZE * head_dim


@dataclass(frozen=True, eq=False)
class DeviceRows:
    """A Batch's rows as the kernels read them. One transfer a Batch, whatever the number of Blocks."""

    slots: Tensor  # int32 [rows]
    positions: Tensor  # int32 [rows]
    first: Tensor  # int32 [rows]: where the Pages of the row's Seat begin in ``pages``
    pages: Tensor  # int32

    @classmethod
    def of(cls, rows: BatchRows, device: torch.device) -> DeviceRows:
        key = f"cuda {device}"
        if key not in rows.prepared:
            first, pages = [], []
            for seat in rows.seats:
                first += [len(pages)] * seat.count
                pages += seat.pages
            together = torch.cat([rows.slots, rows.positions, torch.tensor([*first, *pages])]).int().to(device)
            rows.prepared[key] = cls(*together.split([rows.count, rows.count, rows.count, len(pages)]))
        return rows.prepared[key]


def write_kv(k: Tensor, v: Tensor, rows: BatchRows, k_pages: Tensor, v_pages: Tensor) -> None:
    """Rounds keys and values [rows, kv_heads, head_dim] f32 to FP16 and puts each row into its slot."""
    store_kv(k, v, DeviceRows.of(rows, k.device).slots, k_pages, v_pages)


def attention(
    q: Tensor, rows: BatchRows, k_pages: Tensor, v_pages: Tensor, window: int | None, softcap: float | None = None
) -> Tensor:
    """Every query row over its own Seat: [rows, heads, head_dim] f32 -> [rows, heads * head_dim]."""
    num_rows, heads, head_dim = q.shape
    kv_heads = k_pages.shape[1]
    assert rows.count == num_rows and heads % kv_heads == 0
    assert k_pages.stride() == v_pages.stride() and k_pages.stride()[-2:] == (head_dim, 1)
    out = torch.empty(num_rows, heads * head_dim, dtype=torch.float32, device=q.device)
    if not num_rows:
        return out
    there, shared, block = DeviceRows.of(rows, q.device), heads // kv_heads, power_of_two(head_dim)
    at_once = max(1, min(power_of_two(shared), _PRODUCTS // (PAGE_SIZE * block)))
    launch(
        _attention_kernel, (num_rows, kv_heads, triton.cdiv(shared, at_once)),
        q.contiguous(), out, there.positions, there.first, there.pages, k_pages, v_pages,
        k_pages.stride(0), k_pages.stride(1), _score_scale(head_dim), window or 0, softcap or 0.0,
        KV_HEADS=kv_heads, SHARED=shared, AT_ONCE=at_once, HEAD_DIM=head_dim, BLOCK=block, PAGE_SIZE=PAGE_SIZE,
        WINDOW=window is not None, SOFTCAP=softcap is not None,
    )  # fmt: skip
    return out


@cache
def _score_scale(head_dim: int) -> float:
    """1 / root(head_dim), each rounded to binary32."""
    return torch.reciprocal(root(torch.tensor(float(head_dim)))).item()


@triton.jit(do_not_specialize=["window"])
def _attention_kernel(
    q, out, positions, first, pages, k_pages, v_pages, page_stride, head_stride, scale, window, softcap,
    KV_HEADS: tl.constexpr, SHARED: tl.constexpr, AT_ONCE: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
    PAGE_SIZE: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
):  # fmt: skip
    row, kv_head = tl.program_id(0), tl.program_id(1)
    head = tl.program_id(2) * AT_ONCE + tl.arange(0, AT_ONCE)  # of those that share the key head
    slot, channel = tl.arange(0, PAGE_SIZE), tl.arange(0, BLOCK)
    at = (row.to(tl.int64) * KV_HEADS + kv_head) * SHARED * HEAD_DIM
    position = tl.load(positions + row)
    pages += tl.load(first + row)
    begin = 0
    if WINDOW:
        begin = tl.maximum(position - window + 1, 0) // PAGE_SIZE
    m = tl.full((AT_ONCE,), LOWEST, tl.float32)
    total = tl.zeros((AT_ONCE,), tl.float32)
    acc = tl.zeros((AT_ONCE, BLOCK), tl.float32)
    for page in range(begin, position // PAGE_SIZE + 1):
        here = tl.load(pages + page).to(tl.int64) * page_stride + kv_head * head_stride
        token = page * PAGE_SIZE + slot
        seen = token <= position
        if WINDOW:
            seen = seen & (token > position - window)
        s = _dots(q + at, k_pages + here, head, seen, SHARED, AT_ONCE, HEAD_DIM, PAGE_SIZE) * scale
        if SOFTCAP:
            s = softcap * tanh(tl.math.div_rn(s, tl.full((AT_ONCE, PAGE_SIZE), 1.0, tl.float32) * softcap))
        s = tl.where(seen[None, :], s, -float("inf"))
        larger = tl.maximum(m, tl.max(s, 1))
        alpha, p = exp(m - larger), exp(s - larger[:, None])  # [AT_ONCE], [AT_ONCE, PAGE_SIZE]
        total = total * alpha + lane_tree(tl.sum(tl.reshape(p, (AT_ONCE, 2, LANES)), 1), AT_ONCE)

        mask = seen[:, None] & (channel < HEAD_DIM)[None, :]
        v = tl.load(v_pages + here + slot[:, None] * HEAD_DIM + channel[None, :], mask=mask, other=0.0)
        products = p[:, :, None] * v.to(tl.float32)[None, :, :]
        lanes = tl.sum(tl.reshape(products, (AT_ONCE, 2, 16, BLOCK)), 1)
        lanes = tl.sum(tl.reshape(lanes, (AT_ONCE, 2, 8, BLOCK)), 1)
        lanes = tl.sum(tl.reshape(lanes, (AT_ONCE, 2, 4, BLOCK)), 1)
        lanes = tl.sum(tl.reshape(lanes, (AT_ONCE, 2, 2, BLOCK)), 1)
        acc = acc * alpha[:, None] + (tl.sum(lanes, 1) + 0.0)  # a lane starts at +0, so that no sum is -0
        m = larger
    result = tl.math.div_rn(acc, tl.broadcast_to(total[:, None], (AT_ONCE, BLOCK)))
    mask = (head < SHARED)[:, None] & (channel < HEAD_DIM)[None, :]
    tl.store(out + at + head[:, None] * HEAD_DIM + channel[None, :], result, mask=mask)


@triton.jit
def _dots(
    q, k, head, seen,
    SHARED: tl.constexpr, AT_ONCE: tl.constexpr, HEAD_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
):  # fmt: skip
    """``lane_sum`` of the heads' queries times a Page's keys, [AT_ONCE, PAGE_SIZE]."""
    lane, slot = tl.arange(0, LANES), tl.arange(0, PAGE_SIZE)
    lanes = tl.zeros((AT_ONCE, PAGE_SIZE, LANES), tl.float32)
    for start in tl.static_range(0, HEAD_DIM, LANES):
        channel = (start + lane)[None, :]
        has = channel < HEAD_DIM
        q_part = tl.load(q + head[:, None] * HEAD_DIM + channel, mask=(head < SHARED)[:, None] & has, other=0.0)
        k_part = tl.load(k + slot[:, None] * HEAD_DIM + channel, mask=seen[:, None] & has, other=0.0)
        lanes = lanes + q_part[:, None, :] * k_part.to(tl.float32)[None, :, :]
    return tl.reshape(lane_tree(lanes, AT_ONCE * PAGE_SIZE), (AT_ONCE, PAGE_SIZE))
