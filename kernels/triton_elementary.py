"""What all Triton kernels share: the elementary functions of profile c8 on a device, and the one way to launch.

They are ``elementary``'s, operation by operation. Three things in Triton would break the definition and are never used:
``/`` on floats (an approximate division; here it is ``tl.math.div_rn``), ``tl.exp`` and ``tl.sqrt`` (approximations;
``sqrt_rn`` is IEEE's), and a fused multiply-add, which ``launch`` forbids for every kernel. ``tl.sum`` promises no
order, so it only ever adds two numbers. Maxima are exact in any order.

Whether a device keeps all of this is not believed but tried, at start: ``selfcheck``.
"""

# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl

from kernels import elementary

LANES = tl.constexpr(elementary.LANES)
LOWEST = tl.constexpr(elementary.LOWEST)
_LOG2_E = tl.constexpr(elementary.LOG2_E)
_LN2_HIGH = tl.constexpr(elementary.LN2_HIGH)
_LN2_LOW = tl.constexpr(elementary.LN2_LOW)
_C0, _C1, _C2, _C3, _C4 = (tl.constexpr(c) for c in elementary.EXP_COEFFICIENTS)
_MOST = tl.constexpr(elementary.EXP_MOST)
_ROUNDER = tl.constexpr(1.5 * 2.0**23)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Run ``kernel`` on the device of its tensors, with every operation rounded by itself."""
    where = next(a.device for a in arguments if isinstance(a, torch.Tensor))
    with torch.cuda.device(where) if where.type == "cuda" else nullcontext():
        kernel[grid](*arguments, **options, enable_fp_fusion=False)


def power_of_two(n: int) -> int:
    """The next one: ``n`` or more. Blocks in Triton have no other sizes."""
    return 1 << max(0, n - 1).bit_length()


@triton.jit
def round_half_even(x):
    """The nearest integer, for |x| < 2^22: adding 1.5 * 2^23 leaves no bit for the fraction."""
    return (x + _ROUNDER) - _ROUNDER


@triton.jit
def exp(x):
    """``elementary.exp``. The clamp is written as comparisons, so that NaN stays NaN."""
    r = tl.where(x < -_MOST, -_MOST, tl.where(x > _MOST, _MOST, x))
    k = round_half_even(r * _LOG2_E)
    r = (r - k * _LN2_HIGH) - k * _LN2_LOW
    p = r * _C4
    p = (p + _C3) * r
    p = (p + _C2) * r
    p = (p + _C1) * r
    p = ((p + _C0) * (r * r) + r) + 1.0
    power = ((k.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)  # the exponent's bits
    return p * power


@triton.jit
def silu(x):
    return tl.math.div_rn(x, exp(-x) + 1.0)


@triton.jit
def tanh(x):
    e = exp(x + x) + 1.0
    return 1.0 - tl.math.div_rn(tl.full(e.shape, 2.0, tl.float32), e)


@triton.jit
def lane_tree(lanes, COUNT: tl.constexpr):
    """The tree of ``lane_sum`` over [COUNT, 16], flat or in any shape of that order -> [COUNT]."""
    x = tl.sum(tl.reshape(lanes, (COUNT, 2, 8)), 1)
    x = tl.sum(tl.reshape(x, (COUNT, 2, 4)), 1)
    x = tl.sum(tl.reshape(x, (COUNT, 2, 2)), 1)
    return tl.sum(tl.reshape(x, (COUNT, 2)), 1)


@triton.jit
def inverse_rms(x, width, width_f, eps, UNROLL: tl.constexpr):
    """``1 / root(lane_sum(x * x) / width + eps)`` of the row at ``x``, as a block of one."""
    lane = tl.arange(0, LANES)[None, :]
    lanes = tl.zeros((1, LANES), tl.float32)
    for start in range(0, width, LANES * UNROLL):
        for step in tl.static_range(UNROLL):
            channel = start + step * LANES + lane
            value = tl.load(x + channel, mask=channel < width, other=0.0)
            lanes = lanes + value * value
    mean = tl.math.div_rn(lane_tree(lanes, 1), width_f) + eps
    return tl.math.div_rn(tl.full((1,), 1.0, tl.float32), tl.math.sqrt_rn(mean))
