"""Packed INT8 matrices: ``types.Linear`` in the order in which vector instructions eat it. Knows where each byte goes,
computes nothing.

**Why.** A core reads memory at full speed when it reads forward, and it multiplies fastest when what it reads is what
an instruction takes: x86's ``vpdpbusd`` and ARM's ``usdot`` multiply four neighbouring channels of a whole vector of
output rows, weights on the unsigned side. So 64 output rows make a **panel**, a panel is walked group by group, and a
group of 64 channels lies in one piece of 4224 bytes, 66 cache lines:

    4096 bytes   [16 quads][64 rows][4 channels] of w + 128, unsigned
     128 bytes   [64 rows] FP16 scales, little-endian

The scales sit behind the weights they belong to, so that one stream is read and nothing is fetched twice. Rows beyond
the matrix's last and channels beyond its width are weight 0 (byte 128) with scale 0; rows of padding cost a narrow
matrix up to 63 rows, and nothing else. One byte and a thirty-second a weight, as before packing.

All native implementations share this layout, whatever their vectors' width. So one packed form is cached on disk
(``model.cache``), and a machine's cache serves the next machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.memory import huge
from kernels.types import GROUP, Linear

PANEL_ROWS = 64  # output rows that lie together
QUAD = 4  # input channels that one instruction multiplies at a time
PIECE_BYTES = PANEL_ROWS * GROUP + 2 * PANEL_ROWS  # a panel's share of one group: weights, then scales

_ZERO = 0x80  # the byte of weight 0
_ZEROS = -0x7F7F7F80  # four of them, as int32
_AT_A_TIME = 1 << 22  # weights packed at a time


@dataclass(frozen=True, eq=False)
class Panels:
    """An INT8 matrix in panels; the module tells its layout."""

    data: Tensor  # uint8 [panels, groups, PIECE_BYTES]
    bias: Tensor | None  # f32 [out_features]
    out_features: int
    in_features: int

    def __post_init__(self) -> None:
        expected = (-(-self.out_features // PANEL_ROWS), -(-self.in_features // GROUP), PIECE_BYTES)
        assert self.data.shape == expected, f"panels of {tuple(self.data.shape)}, expected {expected}"
        assert self.data.dtype == torch.uint8 and self.data.is_contiguous(), f"panels of {self.data.dtype}"
        assert self.bias is None or self.bias.shape == (self.out_features,)

    @property
    def groups(self) -> int:
        return self.data.shape[1]

    @property
    def group(self) -> int:
        """Input channels a group."""
        return GROUP


def pack(linear: Linear) -> Panels:
    """``linear`` in panels. Beside both forms it takes a few MB."""
    assert linear.group == GROUP, f"panels have groups of {GROUP}, the matrix has {linear.group}"
    out, groups = linear.out_features, linear.groups
    panels = -(-out // PANEL_ROWS)
    count = panels * groups * PIECE_BYTES
    memory = huge(count)
    memory = torch.empty(count, dtype=torch.uint8) if memory is None else memory
    data = memory.view(panels, groups, PIECE_BYTES)
    quads, scales = _views(data)
    weight = linear.weight.contiguous().view(torch.int32).view(out, groups, GROUP // QUAD)
    scale = linear.scale.view(torch.int16)
    step = max(1, _AT_A_TIME // (PANEL_ROWS * groups * GROUP))
    for first in range(0, panels, step):
        part = slice(first * PANEL_ROWS, min((first + step) * PANEL_ROWS, out))
        _place(quads[first : first + step], weight[part] ^ _ZEROS, _ZEROS)
        _place(scales[first : first + step].unsqueeze(2), scale[part].unsqueeze(2), 0)
    return Panels(data, linear.bias, out, linear.in_features)


def unpack(panels: Panels) -> Linear:
    """The canonical form of ``panels``; ``unpack(pack(linear))`` is ``linear``."""
    quads, scales = _views(panels.data)
    out, groups = panels.out_features, panels.groups
    weight = torch.empty(out, groups * GROUP, dtype=torch.int8)
    rows = weight.view(torch.int32).view(out, groups, GROUP // QUAD)
    scale = torch.empty(out, groups, dtype=torch.float16)
    for panel in range(len(quads)):
        first, end = panel * PANEL_ROWS, min((panel + 1) * PANEL_ROWS, out)
        rows[first:end] = quads[panel].permute(2, 0, 1)[: end - first] ^ _ZEROS
        scale[first:end].view(torch.int16).copy_(scales[panel].t()[: end - first])
    return Linear(weight, scale, panels.bias, panels.in_features)


def _views(data: Tensor) -> tuple[Tensor, Tensor]:
    """Into the same memory: int32 [panels, groups, quads, rows], four channels each, and the scales' bits, int16
    [panels, groups, rows].
    """
    panels, groups, _ = data.shape
    quads = data.view(torch.int32)[:, :, : GROUP * PANEL_ROWS // 4].view(panels, groups, GROUP // QUAD, PANEL_ROWS)
    return quads, data.view(torch.int16)[:, :, GROUP * PANEL_ROWS // 2 :]


def _place(places: Tensor, rows: Tensor, filler: int) -> None:
    """``rows`` [rows, groups, n] to ``places`` [panels, groups, n, PANEL_ROWS]; ``filler`` where rows are missing."""
    full, rest = divmod(len(rows), PANEL_ROWS)
    whole = rows[: full * PANEL_ROWS].view(full, PANEL_ROWS, *rows.shape[1:])
    places[:full] = whole.permute(0, 2, 3, 1)
    if rest:
        places[full, :, :, :rest] = rows[full * PANEL_ROWS :].permute(1, 2, 0)
        places[full, :, :, rest:] = filler
