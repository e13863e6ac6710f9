"""The INT8 matrix product of profile c8 in Triton, and rows of an INT8 matrix. Knows one launch, no Block.

A program owns a tile of rows and outputs. For each group of input channels, in ascending order, ``tl.dot`` gives the
INT32 dot products (``mma`` on tensor cores; integers, so their order is no matter), and one multiplication and one
addition fold them in, exactly as in ``reference.linear``. Only the size of the tile depends on the number of rows, and
no output depends on that size.

Scales are read group by group for neighbouring outputs, so a transposed copy of them, 3 % of the matrix, is kept in the
Linear's ``prepared``.
"""

# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.triton_elementary import launch, power_of_two
from kernels.types import Linear, Quantized

# (rows up to, tile's rows, tile's outputs, warps): a tile of 16 rows is the least that tensor cores take
_TILES = ((16, 16, 32, 2), (64, 32, 64, 4), (1 << 62, 64, 128, 8))
_LEAST_DOT = 32  # channels that an INT8 tl.dot needs
_STAGES = 4  # groups on their way from memory


def linear(x: Quantized, weight: Linear, residual: Tensor | None = None) -> Tensor:  # [rows, in] -> [rows, out]
    """``x @ weight.T + bias``, and ``+ residual`` [rows, out] after it in the same launch."""
    rows, padded = x.values.shape
    group, groups, out = weight.group, weight.groups, weight.out_features
    assert padded == weight.weight.shape[1], f"{padded} channels meet {weight.weight.shape[1]}"
    assert x.scale.shape == (rows, groups), f"{tuple(x.scale.shape)} scales for {rows} rows of {groups} groups"
    assert residual is None or residual.shape == (rows, out)
    y = torch.empty(rows, out, dtype=torch.float32, device=x.values.device)
    if not rows:
        return y
    _, tile_rows, tile_out, warps = next(tile for tile in _TILES if rows <= tile[0])
    launch(
        _linear_kernel,
        (triton.cdiv(out, tile_out), triton.cdiv(rows, tile_rows)),
        x.values.contiguous(), x.scale.contiguous(), weight.weight, _scales(weight),
        y if weight.bias is None else weight.bias, y if residual is None else residual.contiguous(), y,
        rows, out, groups,
        GROUP=group, GROUP_BLOCK=max(_LEAST_DOT, power_of_two(group)), ROWS=tile_rows, OUT=tile_out,
        BIAS=weight.bias is not None, RESIDUAL=residual is not None, num_warps=warps, num_stages=_STAGES,
    )  # fmt: skip
    return y


def embedding_rows(table: Linear, token_ids: Tensor) -> Tensor:  # int64 [rows] -> [rows, hidden]
    """Rows of an INT8 embedding, on the table's device: integer times scale, which is exact."""
    rows, width = len(token_ids), table.in_features
    y = torch.empty(rows, width, dtype=torch.float32, device=table.weight.device)
    block = min(1024, power_of_two(width))
    if rows:
        launch(
            _embedding_kernel,
            (rows, triton.cdiv(width, block)),
            token_ids.to(y.device), table.weight, table.scale, y, table.weight.shape[1], width, table.groups,
            GROUP=table.group, BLOCK=block,
        )  # fmt: skip
    return y


def _scales(weight: Linear) -> Tensor:  # f16 [groups, out]
    kept = weight.prepared.get("cuda scales")
    if kept is None or kept.device != weight.scale.device:
        kept = weight.prepared["cuda scales"] = weight.scale.t().contiguous()
    return kept


@triton.jit(do_not_specialize=["rows"])
def _linear_kernel(
    values, scales, weight, steps, bias, residual, y, rows, out, groups,
    GROUP: tl.constexpr, GROUP_BLOCK: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr,
    BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    output = tl.program_id(0) * OUT + tl.arange(0, OUT)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, GROUP_BLOCK)
    # What lies beyond the edge repeats the last row or output and is not stored: loads need no mask.
    a_row, b_row = tl.minimum(row, rows - 1).to(tl.int64), tl.minimum(output, out - 1).to(tl.int64)
    width = groups * GROUP
    a_at = values + a_row[:, None] * width + channel[None, :]  # [ROWS, GROUP_BLOCK]
    b_at = weight + b_row[None, :] * width + channel[:, None]  # [GROUP_BLOCK, OUT]
    scales_at, steps_at = scales + a_row * groups, steps + b_row
    total = tl.zeros((ROWS, OUT), tl.float32)
    for _ in range(groups):
        if GROUP == GROUP_BLOCK:
            a, b = tl.load(a_at), tl.load(b_at)
        else:
            a = tl.load(a_at, mask=(channel < GROUP)[None, :], other=0)
            b = tl.load(b_at, mask=(channel < GROUP)[:, None], other=0)
        dots = tl.dot(a, b, out_dtype=tl.int32)
        of_row, of_output = tl.load(scales_at), tl.load(steps_at).to(tl.float32)
        total = total + dots.to(tl.float32) * (of_output[None, :] * of_row[:, None])
        a_at += GROUP
        b_at += GROUP
        scales_at += 1
        steps_at += out
    if BIAS:
        total = total + tl.load(bias + b_row)[None, :]
    at = row.to(tl.int64)[:, None] * out + output[None, :]
    mask = (row < rows)[:, None] & (output < out)[None, :]
    if RESIDUAL:
        total = total + tl.load(residual + at, mask=mask, other=0.0)
    tl.store(y + at, total, mask=mask)


@triton.jit
def _embedding_kernel(
    token_ids, weight, scale, y, padded, width, groups, GROUP: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    token = tl.load(token_ids + row).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < width
    integers = tl.load(weight + token * padded + channel, mask=mask, other=0).to(tl.float32)
    steps = tl.load(scale + token * groups + channel // GROUP, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + row * width + channel, integers * steps, mask=mask)
