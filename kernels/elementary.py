"""The elementary functions of profile c8: the one order in which floats are added, root, exponential, silu, tanh.

Every step is one binary32 operation rounded to nearest even (the square root goes through binary64, see there). Nothing
here calls libm, a reduction of torch's whose order is not promised, or anything that a compiler may fuse.
"""

from __future__ import annotations

import torch
from torch import Tensor

LANES = 16
LOWEST = -3.4028234663852886e38  # the most negative finite binary32

# exp(x) = 2^k * exp(r): k = round(x / ln 2), r = x - k * ln 2 with ln 2 in two parts. The high part has 15 significant
# bits, so that k * LN2_HIGH is exact for every |k| < 2^9; the low part is what is missing from ln 2, rounded to
# binary32.
LOG2_E = float.fromhex("0x1.715476p+0")
LN2_HIGH = float.fromhex("0x1.62e4p-1")
LN2_LOW = float.fromhex("0x1.7f7d1cp-20")
# (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, minimax in the relative error of exp (2^-28), ascending powers, rounded
# to binary32.
EXP_COEFFICIENTS = tuple(
    map(float.fromhex, ("0x1.fffffcp-2", "0x1.555492p-3", "0x1.5558f2p-5", "0x1.1239e2p-7", "0x1.6a2434p-10"))
)
EXP_MOST = 88.0
_TWO = torch.tensor(2.0)  # a tensor, because number / tensor rounds twice in torch


def lane_sum(x: Tensor, dim: int = -1) -> Tensor:
    """The sum over ``dim``, which disappears. This order and no other:

    1. zeros are appended up to a multiple of 16; element i belongs to lane i mod 16;
    2. each lane starts at +0 and adds its elements in ascending order;
    3. lanes 8..15 are added to lanes 0..7, then 4..7 to 0..3, 2..3 to 0..1, and 1 to 0.

    Sixteen lanes are one AVX-512 register, or two of AVX2. A sum that starts at +0 is never -0, so appended zeros
    change nothing.
    """
    dim %= x.dim()
    if x.shape[dim] % LANES:
        missing = list(x.shape)
        missing[dim] = -x.shape[dim] % LANES
        x = torch.cat([x, x.new_zeros(missing)], dim)
    rows = x.unflatten(dim, (-1, LANES)).unbind(dim)
    lanes = rows[0]
    if len(rows) > 1:
        lanes = rows[0] + rows[1]
        for row in rows[2:]:
            lanes += row
    for width in (8, 4, 2, 1):
        lanes = lanes.narrow(dim, 0, width) + lanes.narrow(dim, width, width)
    # Starting from the first element, not from +0, differs only where all are -0; one addition at the end makes up.
    return lanes.squeeze(dim) + 0.0


def root(x: Tensor) -> Tensor:
    """The correctly rounded square root.

    torch.sqrt on CPU is off by one unit for 9 to 25 % of arguments (2.13, AVX-512). The root in binary64, rounded
    once more, is right even if that one is a unit off: the root of a 24-bit number keeps 2^-51 away from every midpoint
    of binary32.
    """
    return torch.sqrt(x.double()).float()


def exp(x: Tensor) -> Tensor:
    """e^x to within one unit in the last place; 0 where k would be -127 (x < -87.7), e^88 above 88; NaN stays NaN.

    x is clamped to -88..88; k = round_half_even(x * LOG2_E); r = (x - k * LN2_HIGH) - k * LN2_LOW; p by Horner from the
    highest coefficient; ((p * (r * r)) + r) + 1; times 2^k, where 2^-127 counts as 0.
    """
    r = x.clamp(-EXP_MOST, EXP_MOST)
    k = (r * LOG2_E).round_()
    r.sub_(k, alpha=LN2_HIGH).sub_(k * LN2_LOW)  # alpha * k is exact, so that it is no matter whether torch fuses it
    p = r * EXP_COEFFICIENTS[4]
    for coefficient in EXP_COEFFICIENTS[3:0:-1]:
        p.add_(coefficient).mul_(r)
    p.add_(EXP_COEFFICIENTS[0]).mul_(r * r).add_(r).add_(1.0)
    power = k.to(torch.int32).add_(127).bitwise_left_shift_(23).view(torch.float32)  # the exponent's bits
    return p.mul_(power)


def silu(x: Tensor) -> Tensor:
    """x / (1 + exp(-x))."""
    return x / exp(x.neg()).add_(1.0)


def tanh(x: Tensor) -> Tensor:
    """1 - 2 / (exp(x + x) + 1): within 2^-22 of tanh, and exactly 0 and +-1 where exp is 1, 0 or huge.

    Near zero that is an absolute error, not one in the last place: enough for a soft cap, whose scores are added to an
    exponent.
    """
    return torch.div(_TWO, exp(x + x).add_(1.0)).neg_().add_(1.0)
