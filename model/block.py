"""One decoder Block with options: biases, QK-norm, a sliding window, grouped queries. The four families differ in
nothing else.

Profile c8 is ``kernels``' whole Block. Profile f32 is below in plain torch, to be compared with transformers, not to be
exact: its last bits depend on the Batch, as everybody's do.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import Kernels
from kernels.types import PAGE_SIZE, BatchRows, BlockOperands, BlockShape, SeatRows
from model.config import ModelConfig
from model.parameters import AnyLinear, BlockWeights, FloatLinear
from swarm.profile import Profile


class Block:
    """Block ``index`` of a model. ``forward`` is all it does."""

    def __init__(self, config: ModelConfig, index: int, weights: BlockWeights, profile: Profile, kernels: Kernels):
        self._shape = BlockShape(
            config.num_heads, config.num_kv_heads, config.head_dim, config.rms_eps, config.windows[index]
        )
        self._weights, self._profile, self._kernels = weights, profile, kernels

    def forward(self, x: Tensor, rows: BatchRows, cos: Tensor, sin: Tensor, k_pages: Tensor, v_pages: Tensor) -> Tensor:
        """[rows, hidden] f32 -> the same. Writes the rows' keys and values into their Seats' Pages; ``x`` stays as it
        is.
        """
        if self._profile == "c8":
            weights = cast(BlockOperands, self._weights)
            return self._kernels.block(x, weights, self._shape, rows, cos, sin, k_pages, v_pages)
        return _float_block(x, self._weights, self._shape, rows, cos, sin, k_pages, v_pages)


def float_linear(x: Tensor, weight: AnyLinear) -> Tensor:
    assert isinstance(weight, FloatLinear), "a Linear of profile c8 came to profile f32"
    return F.linear(x, weight.weight, weight.bias)


def float_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def _float_block(
    x: Tensor,
    weights: BlockWeights,
    shape: BlockShape,
    rows: BatchRows,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
) -> Tensor:
    heads, kv_heads = shape.num_heads, shape.num_kv_heads
    qkv = float_linear(float_norm(x, weights.norm1, shape.eps), weights.qkv)
    q, k, v = qkv.view(len(x), -1, shape.head_dim).split([heads, kv_heads, kv_heads], 1)
    if weights.q_norm is not None and weights.k_norm is not None:
        q, k = float_norm(q, weights.q_norm, shape.eps), float_norm(k, weights.k_norm, shape.eps)
    q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
    page, offset = rows.slots // PAGE_SIZE, rows.slots % PAGE_SIZE
    k_pages.transpose(1, 2)[page, offset], v_pages.transpose(1, 2)[page, offset] = k, v
    pieces = zip(q.split([seat.count for seat in rows.seats]), rows.seats, strict=True)
    seen = torch.cat([_attend(piece, seat, k_pages, v_pages, shape) for piece, seat in pieces])
    x = x + float_linear(seen.flatten(1), weights.o)
    gate, up = float_linear(float_norm(x, weights.norm2, shape.eps), weights.gate_up).chunk(2, -1)
    return x + float_linear(F.silu(gate) * up, weights.down)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # [rows, heads, head_dim], [rows, head_dim / 2] twice
    left, right = x.chunk(2, -1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def _attend(q: Tensor, seat: SeatRows, k_pages: Tensor, v_pages: Tensor, shape: BlockShape) -> Tensor:
    """[count, heads, head_dim] -> the same: the Seat's queries over its own keys."""
    end = seat.position + seat.count
    pages = torch.tensor(seat.pages[: -(-end // PAGE_SIZE)], dtype=torch.int64)
    k, v = (t[pages].transpose(0, 1).flatten(1, 2)[:, :end] for t in (k_pages, v_pages))  # [kv_heads, end, head_dim]
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[0], 0) for t in (k, v))
    tokens, positions = torch.arange(end), torch.arange(seat.position, end).unsqueeze(1)
    visible = tokens <= positions
    if shape.window is not None:
        visible &= tokens > positions - shape.window
    scores = (q.transpose(0, 1) @ k.transpose(1, 2)) * q.shape[-1] ** -0.5  # [heads, count, end]
    if shape.softcap is not None:
        scores = torch.tanh(scores / shape.softcap) * shape.softcap
    return (scores.masked_fill(~visible, -torch.inf).softmax(-1) @ v).transpose(0, 1)
