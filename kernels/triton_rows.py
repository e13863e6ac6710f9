"""What happens to a row between two matrices, in Triton: norm, gate and quantisation in one launch; norm, rotation and
the writing of keys and values of all heads in another.

A row is quantised by several programs, some groups each; with a norm every one of them adds up the whole row's squares,
which costs less than a second launch.
"""

# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.reference import NEARLY_ZERO
from kernels.triton_elementary import inverse_rms, launch, power_of_two, round_half_even, silu
from kernels.types import PAGE_SIZE, Quantized

_CHANNELS = 1024  # of a row for one program
_UNROLL = 8  # slices of 16 channels on their way from memory while a norm adds
_LEAST = tl.constexpr(int(torch.tensor(NEARLY_ZERO).view(torch.int32)))  # of non-negative floats, bits are in order too


def quantize(x: Tensor, group: int) -> Quantized:  # [rows, width]
    """INT8 in groups: ``reference.quantize``."""
    return _quantize(x, group)


def norm_quantize(x: Tensor, weight: Tensor, eps: float, group: int) -> Quantized:
    return _quantize(x, group, norm=weight, eps=eps)


def gated_quantize(gate_up: Tensor, group: int) -> Quantized:  # [rows, 2 * inner]
    """``quantize(silu(gate) * up)``; gate is the first half of the channels."""
    return _quantize(gate_up, group, gated=True)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:  # [..., width], [width]
    """RMSNorm: ``reference.norm``."""
    width = x.shape[-1]
    x = x.contiguous()
    y = torch.empty_like(x)
    block = min(_CHANNELS, power_of_two(width))
    if y.numel():
        launch(
            _norm_kernel, (y.numel() // width, triton.cdiv(width, block)),
            x, weight, y, width, float(width), eps, BLOCK=block, UNROLL=_UNROLL,
        )  # fmt: skip
    return y


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # [rows, heads, head_dim], [rows, head_dim / 2] twice
    """Rotates channel i with channel i + head_dim / 2: ``(a * cos - b * sin, b * cos + a * sin)``."""
    y = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    _heads(q=x.contiguous(), turned=y, cos=cos, sin=sin)
    return y


def store_kv(k: Tensor, v: Tensor, slots: Tensor, k_pages: Tensor, v_pages: Tensor) -> None:
    """Rounds keys and values [rows, kv_heads, head_dim] to FP16 and puts each row into its slot, int32 [rows], on the
    same device. An overflow is stored as NaN.
    """
    _heads(k=k, v=v, slots=slots, k_pages=k_pages, v_pages=v_pages)


def heads(
    qkv: Tensor,  # [rows, (heads + 2 * kv_heads) * head_dim]
    num_heads: int,
    head_dim: int,
    norms: tuple[Tensor, Tensor] | None,  # of q and of k, each f32 [head_dim]
    eps: float,
    cos: Tensor,
    sin: Tensor,
    slots: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
) -> Tensor:
    """From the product with W_qkv to rotated queries [rows, heads, head_dim] and stored keys and values, in one
    launch.
    """
    split = qkv.view(len(qkv), -1, head_dim)
    kv_heads = (split.shape[1] - num_heads) // 2
    q, k, v = split.split([num_heads, kv_heads, kv_heads], 1)
    y = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    _heads(q, k, v, y, norms, eps, cos, sin, slots, k_pages, v_pages)
    return y


def _quantize(x: Tensor, group: int, norm: Tensor | None = None, eps: float = 0.0, gated: bool = False) -> Quantized:
    rows, width = len(x), x.shape[1] // 2 if gated else x.shape[1]
    groups, group_block = triton.cdiv(width, group), power_of_two(group)
    at_once = max(1, min(_CHANNELS // group_block, power_of_two(groups)))
    values = torch.empty(rows, groups * group, dtype=torch.int8, device=x.device)
    scale = torch.empty(rows, groups, dtype=torch.float32, device=x.device)
    if rows:
        x = x.contiguous()
        launch(
            _quantize_kernel, (rows, triton.cdiv(groups, at_once)),
            x, x if norm is None else norm, values, scale, x.shape[1], width, float(width), eps, groups,
            GROUP=group, GROUP_BLOCK=group_block, AT_ONCE=at_once, NORM=norm is not None, GATED=gated, UNROLL=_UNROLL,
        )  # fmt: skip
    return Quantized(values, scale)


def _heads(
    q: Tensor | None = None,
    k: Tensor | None = None,
    v: Tensor | None = None,
    turned: Tensor | None = None,
    norms: tuple[Tensor, Tensor] | None = None,
    eps: float = 0.0,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    slots: Tensor | None = None,
    k_pages: Tensor | None = None,
    v_pages: Tensor | None = None,
) -> None:
    """One launch of ``_heads_kernel``; where a part is missing, any tensor stands for it that is never looked at."""
    some = q if q is not None else k
    assert some is not None
    rows, _, head_dim = some.shape
    num_heads, kv_heads = 0 if q is None else q.shape[1], 0 if k is None else k.shape[1]
    q, k, v, turned = (some if t is None else t for t in (q, k, v, turned))
    cos, sin, slots = (some if t is None else t.contiguous() for t in (cos, sin, slots))
    q_norm, k_norm = norms or (some, some)
    k_pages, v_pages = (some if t is None else t for t in (k_pages, v_pages))
    q, k, v = (t if t.stride(-1) == 1 and t.stride(-2) == head_dim else t.contiguous() for t in (q, k, v))
    assert k_pages.stride() == v_pages.stride() and k_pages.stride()[-2:] == (head_dim, 1)
    if rows:
        launch(
            _heads_kernel, (rows, num_heads + 2 * kv_heads),
            q, k, v, q_norm, k_norm, cos, sin, slots, turned, k_pages, v_pages,
            q.stride(0), k.stride(0), v.stride(0), k_pages.stride(0), k_pages.stride(1), float(head_dim), eps,
            HEADS=num_heads, KV_HEADS=kv_heads, HEAD_DIM=head_dim, BLOCK=power_of_two(-(-head_dim // 2)),
            PAGE_SIZE=PAGE_SIZE, NORM=norms is not None, ROPE=cos is not some,
            UNROLL=min(_UNROLL, triton.cdiv(head_dim, 16)), num_warps=1,
        )  # fmt: skip


@triton.jit
def _quantize_kernel(
    x, norm, values, scales, stride, width, width_f, eps, groups,
    GROUP: tl.constexpr, GROUP_BLOCK: tl.constexpr, AT_ONCE: tl.constexpr,
    NORM: tl.constexpr, GATED: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    x += row * stride
    group = tl.program_id(1) * AT_ONCE + tl.arange(0, AT_ONCE)  # [AT_ONCE]
    inside = tl.arange(0, GROUP_BLOCK)[None, :]
    channel = group[:, None] * GROUP + inside  # [AT_ONCE, GROUP_BLOCK]
    written = (group < groups)[:, None] & (inside < GROUP)
    read = written & (channel < width)
    value = tl.load(x + channel, mask=read, other=0.0)
    if NORM:
        value = (value * inverse_rms(x, width, width_f, eps, UNROLL)[None, :]) * tl.load(norm + channel, read, 0.0)
    if GATED:
        value = silu(value) * tl.load(x + width + channel, mask=read, other=0.0)
    # As integers the magnitudes have the same order, and a NaN is the largest of all.
    magnitude = tl.where(read, value.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 0)
    amax = tl.maximum(tl.max(magnitude, 1), _LEAST).to(tl.float32, bitcast=True)  # [AT_ONCE]
    most = tl.full((AT_ONCE,), 127.0, tl.float32)
    q = round_half_even(value * tl.math.div_rn(most, amax)[:, None])
    tl.store(values + row * groups * GROUP + channel, tl.where(read, q, 0.0).to(tl.int8), mask=written)
    tl.store(scales + row * groups + group, tl.math.div_rn(amax, most), mask=group < groups)


@triton.jit
def _norm_kernel(x, weight, y, width, width_f, eps, BLOCK: tl.constexpr, UNROLL: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x += row * width
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < width
    value = tl.load(x + channel, mask=mask, other=0.0) * inverse_rms(x, width, width_f, eps, UNROLL)
    tl.store(y + row * width + channel, value * tl.load(weight + channel, mask=mask, other=0.0), mask=mask)


@triton.jit
def _heads_kernel(
    q, k, v, q_norm, k_norm, cos, sin, slots, turned, k_pages, v_pages,
    q_stride, k_stride, v_stride, page_stride, head_stride, width_f, eps,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
    PAGE_SIZE: tl.constexpr, NORM: tl.constexpr, ROPE: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """One head of one row: queries first, then keys, then values."""
    HALF: tl.constexpr = HEAD_DIM // 2
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    if head < HEADS:
        left, right = _turn(
            q + row * q_stride + head * HEAD_DIM, q_norm, cos + row * HALF, sin + row * HALF,
            width_f, eps, HEAD_DIM, BLOCK, NORM, ROPE, UNROLL,
        )  # fmt: skip
        _store(turned + (row * HEADS + head) * HEAD_DIM, left, right, HEAD_DIM, BLOCK)
    elif head < HEADS + KV_HEADS:
        mine = head - HEADS
        left, right = _turn(
            k + row * k_stride + mine * HEAD_DIM, k_norm, cos + row * HALF, sin + row * HALF,
            width_f, eps, HEAD_DIM, BLOCK, NORM, ROPE, UNROLL,
        )  # fmt: skip
        at = _slot(slots, row, mine, page_stride, head_stride, HEAD_DIM, PAGE_SIZE)
        _store(k_pages + at, _half(left), _half(right), HEAD_DIM, BLOCK)
    else:
        mine = head - HEADS - KV_HEADS
        left, right = _turn(
            v + row * v_stride + mine * HEAD_DIM, k_norm, cos, sin,
            width_f, eps, HEAD_DIM, BLOCK, False, False, UNROLL,
        )  # fmt: skip
        at = _slot(slots, row, mine, page_stride, head_stride, HEAD_DIM, PAGE_SIZE)
        _store(v_pages + at, _half(left), _half(right), HEAD_DIM, BLOCK)


@triton.jit
def _turn(
    x, norm, cos, sin, width_f, eps, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
    NORM: tl.constexpr, ROPE: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Both halves of the head at ``x``, normed and rotated; the first has one channel more where head_dim is odd."""
    HALF: tl.constexpr = HEAD_DIM // 2
    FIRST: tl.constexpr = HEAD_DIM - HALF
    channel = tl.arange(0, BLOCK)
    left = tl.load(x + channel, mask=channel < FIRST, other=0.0)
    right = tl.load(x + FIRST + channel, mask=channel < HALF, other=0.0)
    if NORM:
        r = inverse_rms(x, HEAD_DIM, width_f, eps, UNROLL)
        left = (left * r) * tl.load(norm + channel, mask=channel < FIRST, other=0.0)
        right = (right * r) * tl.load(norm + FIRST + channel, mask=channel < HALF, other=0.0)
    if ROPE:
        c = tl.load(cos + channel, mask=channel < HALF, other=0.0)
        s = tl.load(sin + channel, mask=channel < HALF, other=0.0)
        turned = left * c - right * s
        right = right * c + left * s
        left = turned
    return left, right


@triton.jit
def _store(at, left, right, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr):
    channel = tl.arange(0, BLOCK)
    tl.store(at + channel, left, mask=channel < HEAD_DIM - HEAD_DIM // 2)
    tl.store(at + (HEAD_DIM - HEAD_DIM // 2) + channel, right, mask=channel < HEAD_DIM // 2)


@triton.jit
def _half(x):
    """FP16, with NaN for what does not fit."""
    bits = x.to(tl.float16).to(tl.int16, bitcast=True)
    return tl.where((bits & 0x7FFF) == 0x7C00, 0x7E00, bits).to(tl.int16).to(tl.float16, bitcast=True)


@triton.jit
def _slot(slots, row, head, page_stride, head_stride, HEAD_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr):
    slot = tl.load(slots + row).to(tl.int64)
    return (slot // PAGE_SIZE) * page_stride + head * head_stride + (slot % PAGE_SIZE) * HEAD_DIM
