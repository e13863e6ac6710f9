"""RoPE tables that are the same on every machine: cosine and sine of position times frequency, for each kind of
scaling.

libm's pow, sin and cos differ in last places between machines, and a table that differs in one bit changes every key.
So nothing here calls them. Frequencies come from ``decimal`` with 40 digits and are rounded once to binary32. The angle
is ``fp32(position) * fp32(frequency)``, as transformers computes it. Its cosine and sine are taken in binary64 by
multiplications and additions alone, and rounded to binary32.

**Cosine and sine.** ``k = round(x * 2/pi)``, ``r = x - k * pi/2`` with pi/2 in three parts, of which the first two have
so few bits that ``k`` times them is exact for ``k < 2^28``; |r| <= pi/4. The series up to r^17 and r^16 are good to
2^-54; ``k mod 4`` says which of them it is, and with which sign.

**dynamic** (NTK): position p uses the frequencies for a text of p + 1 tokens, whatever Chunk it comes in. transformers
uses those of the whole prompt for all of its positions, so a prompt beyond the original maximum differs there; tokens
after it do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from functools import lru_cache

import torch
from torch import Tensor

from model.config import ModelConfig, RopeConfig

DIGITS = 40
PI = Decimal("3.14159265358979323846264338327950288419716939937510582")

_TWO_OVER_PI = float.fromhex("0x1.45f306dc9c883p-1")
# pi/2 = A + B + C, A and B with 25 significant bits each, C rounded to binary64
_HALF_PI_A = float.fromhex("0x1.921fb5p+0")
_HALF_PI_B = float.fromhex("0x1.110b46p-26")
_HALF_PI_C = float.fromhex("0x1.1a62633145c07p-54")


class RopeTable:
    """Rows of cosines and sines for positions of one model; yarn's attention scaling is folded into both."""

    def __init__(self, config: ModelConfig):
        self._rope, self._head_dim = config.rope, config.head_dim
        self._scale = _attention_scale(config.rope)
        self._frequencies = torch.tensor(frequencies(config.rope, config.head_dim, 0), dtype=torch.float64).float()

    def rows(self, positions: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), each f32 [len(positions), head_dim / 2]."""
        positions = torch.as_tensor(positions, dtype=torch.int64)
        angles = (positions.float().unsqueeze(1) * self._rows_of_frequencies(positions)).double()
        cos, sin = cos_sin(angles)
        cos, sin = cos.float(), sin.float()
        return (cos, sin) if self._scale == 1.0 else (cos * self._scale, sin * self._scale)

    def _rows_of_frequencies(self, positions: Tensor) -> Tensor:  # [1 or len(positions), head_dim / 2]
        if (
            self._rope.kind != "dynamic"
            or not len(positions)
            or int(positions.max()) < self._rope.original_max_positions
        ):
            return self._frequencies.unsqueeze(0)
        rows = [frequencies(self._rope, self._head_dim, position + 1) for position in positions.tolist()]
        return torch.tensor(rows, dtype=torch.float64).float()


@lru_cache(maxsize=4096)
def frequencies(rope: RopeConfig, head_dim: int, length: int) -> tuple[float, ...]:
    """One angular frequency for each pair of channels, for a text of ``length`` tokens (``dynamic`` looks at it)."""
    with localcontext() as context:
        context.prec = DIGITS
        theta, factor = Decimal(rope.theta), Decimal(rope.factor)
        if rope.kind == "dynamic" and length > rope.original_max_positions:
            stretch = factor * length / rope.original_max_positions - (factor - 1)
            theta *= (stretch.ln() * head_dim / (head_dim - 2)).exp()
        ratio = (theta.ln() * -2 / head_dim).exp()
        plain = [Decimal(1)]
        while len(plain) < head_dim // 2:
            plain.append(plain[-1] * ratio)
        if rope.kind == "linear":
            plain = [f / factor for f in plain]
        elif rope.kind == "llama3":
            plain = [_llama3(f, rope) for f in plain]
        elif rope.kind == "yarn":
            plain = _yarn(plain, rope, head_dim)
        return tuple(map(float, plain))


def _llama3(frequency: Decimal, rope: RopeConfig) -> Decimal:
    """Long wavelengths are stretched by the factor, short ones kept, those between interpolated (Llama 3.1)."""
    low, high, factor = Decimal(rope.low_freq_factor), Decimal(rope.high_freq_factor), Decimal(rope.factor)
    turns = rope.original_max_positions * frequency / (2 * PI)  # over the original context
    smooth = min(max((turns - low) / (high - low), Decimal(0)), Decimal(1))
    return (1 - smooth) * frequency / factor + smooth * frequency


def _yarn(plain: list[Decimal], rope: RopeConfig, head_dim: int) -> list[Decimal]:
    """Channels that turn rarely are stretched, those that turn often kept, with a linear ramp over the channels between
    (Peng et al. 2023).
    """
    theta = Decimal(rope.theta)

    def channel(turns: float) -> Decimal:  # that turns so many times over the original context
        return head_dim * (rope.original_max_positions / (Decimal(turns) * 2 * PI)).ln() / (2 * theta.ln())

    low, high = channel(rope.beta_fast), channel(rope.beta_slow)
    if rope.truncate:
        low, high = low.to_integral_value("ROUND_FLOOR"), high.to_integral_value("ROUND_CEILING")
    low, high = max(low, Decimal(0)), min(high, Decimal(head_dim - 1))
    if low == high:
        high += Decimal("0.001")
    ramps = [min(max((i - low) / (high - low), Decimal(0)), Decimal(1)) for i in range(head_dim // 2)]
    return [f / Decimal(rope.factor) * ramp + f * (1 - ramp) for f, ramp in zip(plain, ramps, strict=True)]


def _attention_scale(rope: RopeConfig) -> float:
    """What yarn multiplies cosines and sines by."""
    if rope.kind != "yarn":
        return 1.0
    if rope.attention_factor is not None:
        return rope.attention_factor
    with localcontext() as context:
        context.prec = DIGITS
        logarithm = Decimal(rope.factor).ln() / 10 if rope.factor > 1 else Decimal(0)
        if rope.mscale and rope.mscale_all_dim:
            return float((Decimal(rope.mscale) * logarithm + 1) / (Decimal(rope.mscale_all_dim) * logarithm + 1))
        return float(logarithm + 1)


def cos_sin(x: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of f64 ``x``, 0 <= x < 2^28, within 2^-49; relative to x's own last place that is nothing."""
    k = (x * _TWO_OVER_PI).round_()
    r = x - k * _HALF_PI_A - k * _HALF_PI_B - k * _HALF_PI_C
    square = r * r
    cosine, sine = _series(square, 0), _series(square, 1) * r
    quadrant = k.to(torch.int64) & 3
    odd = quadrant % 2 == 1
    cos = torch.where(odd, sine, cosine)
    sin = torch.where(odd, cosine, sine)
    return torch.where((quadrant == 1) | (quadrant == 2), -cos, cos), torch.where(quadrant >= 2, -sin, sin)


def _series(square: Tensor, first: int) -> Tensor:
    """1 - square / (first + 1)(first + 2) * (1 - square / ...), eight terms: cos for 0, sin(r) / r for 1."""
    total = torch.ones_like(square)
    for n in range(15 + first, first, -2):
        total = 1.0 - square / float(n * (n + 1)) * total
    return total
