"""The arithmetic of profile c8, defined: this file, ``paged_attention`` and ``elementary``, in plain torch.

**Why define it.** A swarm is made of different machines; a Session shares its Batches with strangers, its prompt is cut
into Chunks, its Route changes in mid-sentence. Ordinary kernels add floats in an order that depends on all of these, so
the same tokens give other bits, and sooner or later another text. Here they cannot: *every output row is a fixed
sequence of IEEE operations on its own Seat's numbers.* Whatever computes that sequence, C++ or CUDA, on one thread or
many, gives the same bits as this file; the tests of an implementation compare it with this file for equality, not for
closeness.

**Floats.** Every step is one binary32 operation, rounded to nearest even: a multiplication, then an addition, never
fused. Division and square root are IEEE's, subnormals are kept, exp is our own (``elementary.exp``). Sums over channels
and over the tokens of a Page run over sixteen lanes and one tree (``elementary.lane_sum``). Some of torch breaks these
rules and is never used here: ``sum`` and friends (order not promised), ``number / tensor`` (it is ``reciprocal *
number``, two roundings), ``sqrt`` (see ``elementary.root``), ``addmm``, ``addcmul``, ``lerp``, ``softmax``, ``exp``,
``tanh``. ``alpha=`` of ``add`` and ``sub`` may be fused, so it appears only where the product is exact. Matrix products
appear in ``linear`` alone, on integers so small that FP32 holds them exactly in whatever order BLAS adds them.

**Weights** are INT8 in groups of G input channels with an FP16 scale each (``types.Linear``; ``model.quantize`` makes
them).

**Activations** are INT8 in groups of G, with an FP32 scale a row and group. The group's largest magnitude becomes 127
and the others share its steps. In language models a few channels are 30 to 100 times larger than the rest and would
leave their neighbours one or two bits; the weights' balance (``model.quantize``) takes the factor back where the
channel's column shows it, and what is left harms the other channels of one group of one token, nobody else. A second
INT8 plane, 15 bits in all, would take away more than half of what rounding costs, for twice the integer products;
docs/numerics.md has the measurements.

**Linear.** Groups in ascending order: ``y = y + float(dot) * (s_w * s_a)``, from +0; then the bias. ``dot`` is the
group's dot product in integers. Its partial sums stay below 2^24 in any order, so INT32 holds it, ``float`` does not
round it, and an FP32 product of matrices computes it exactly too.

**Attention** walks a Seat's Pages in ascending order with an online softmax; see ``paged_attention``. Keys and values
are stored in FP16, in Pages [pages, kv_heads, PAGE_SIZE, head_dim]: what one head reads of a Page lies in one piece.

**Not a number.** NaN and infinity stay in their Seat: the row that has one ends with one, rows of the same Seat in the
same Batch may, and no other Seat's row changes. In ``quantize`` they make the scale of their group NaN or infinite, and
so every output of the row, whatever the integers. Keys and values that overflow FP16 count as NaN. So it is enough that
the runner looks at a Span's outputs, Seat by Seat, and fails those that are not finite. Which of the many NaNs a row
ends with is not defined.

Functions take and return FP32 unless they say otherwise. ``rows`` are the tokens of a Batch. The group size is never a
constant here: it is read from the shapes of the operands.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels import Layout
from kernels.elementary import lane_sum, root, silu
from kernels.paged_attention import attention, write_kv
from kernels.types import BatchRows, BlockOperands, BlockShape, Linear, Quantized

__all__ = [
    "attention", "block", "embedding_rows", "gated_quantize", "linear", "norm", "norm_quantize", "quantize", "rope",
    "top_k", "write_kv",
]  # fmt: skip

name = "reference"
layout: Layout = "rows"  # a matrix is a types.Linear
device = torch.device("cpu")

NEARLY_ZERO = 2.0**-100  # the least amax of a group: 127 / amax stays finite
_MOST = torch.tensor(127.0)  # a tensor, because number / tensor rounds twice in torch
_KEPT = 1 << 20  # a matrix of up to so many weights keeps an FP32 copy; of a larger one so many are FP32 at a time
_PRODUCTS = 1 << 22  # exact dot products held at a time


def quantize(x: Tensor, group: int) -> Quantized:  # [rows, width]
    """INT8 in groups: ``q = round_half_even(x * (127 / amax))`` and the scale ``amax / 127``.

    ``amax`` is the group's largest magnitude, or 2^-100 if that is more, so that a group of zeros needs no exception;
    NaN if any of them is, and then the scale is NaN too. The last group is padded with zeros.
    """
    rows, width = x.shape
    if width % group:
        x = torch.nn.functional.pad(x, (0, -width % group))
    grouped = x.reshape(rows, -1, group)
    amax = grouped.abs().amax(-1, keepdim=True).clamp_min_(NEARLY_ZERO)
    q = (grouped * torch.div(_MOST, amax)).round_()
    return Quantized(q.to(torch.int8).view(rows, -1), (amax / _MOST).squeeze(-1))


def linear(x: Quantized, weight: Linear) -> Tensor:  # [rows, in] -> [rows, out]
    """``x @ weight.T + bias``: exact within a group, groups in ascending order."""
    rows, padded = x.values.shape
    group, groups = weight.group, weight.groups
    assert padded == weight.weight.shape[1], f"{padded} channels meet {weight.weight.shape[1]}"
    assert x.scale.shape == (rows, groups), f"{tuple(x.scale.shape)} scales for {rows} rows of {groups} groups"
    assert group * 127 * 127 < 1 << 24, f"groups of {group} do not fit FP32's integers"
    values = x.values.view(rows, groups, group).transpose(0, 1).float()  # [groups, rows, group]
    scale = x.scale.t().unsqueeze(-1)  # [groups, rows, 1]
    pieces: list[Tensor] = []
    for integers, steps in _pieces(weight, rows):  # [groups, group, part of out], [groups, 1, part of out]
        dots = torch.bmm(values, integers)  # exact
        terms = dots.mul_(scale * steps).unbind(0)
        y = terms[0] + 0.0
        for term in terms[1:]:
            y += term
        pieces.append(y)
    y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)
    return y if weight.bias is None else y.add_(weight.bias)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:  # [..., width], [width]
    """RMSNorm: ``r = 1 / root(lane_sum(x * x) / width + eps)``, then ``(x * r) * weight``."""
    mean = lane_sum(x * x).div_(x.shape[-1]).add_(eps)
    return (x * torch.reciprocal(root(mean)).unsqueeze(-1)).mul_(weight)


def norm_quantize(x: Tensor, weight: Tensor, eps: float, group: int) -> Quantized:
    return quantize(norm(x, weight, eps), group)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # [rows, heads, head_dim], [rows, head_dim / 2] twice
    """Rotates channel i with channel i + head_dim / 2: ``(a * cos - b * sin, b * cos + a * sin)``."""
    left, right = x.chunk(2, -1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat([(left * cos).sub_(right * sin), (right * cos).add_(left * sin)], -1)


def gated_quantize(gate_up: Tensor, group: int) -> Quantized:  # [rows, 2 * inner]
    """``quantize(silu(gate) * up)``; gate is the first half of the channels."""
    gate, up = gate_up.chunk(2, -1)
    return quantize(silu(gate).mul_(up), group)


def embedding_rows(table: Linear, token_ids: Tensor) -> Tensor:  # int64 [rows] -> [rows, hidden]
    """Rows of an INT8 embedding: integer times scale, which is exact."""
    steps = table.weight[token_ids].view(len(token_ids), table.groups, table.group).float()
    return (
        steps.mul_(table.scale[token_ids].float().unsqueeze(-1))
        .view(len(token_ids), -1)[:, : table.in_features]
        .contiguous()
    )


def top_k(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:  # [rows, vocab] -> f32 and int64 [rows, k]
    """The ``k`` largest of each row and their ids, largest first, of equals the lower id first. Raises ValueError for
    NaN.
    """
    if bool(torch.isnan(logits).any()):
        raise ValueError("logits: NaN has no place in an order")
    if k == 1:  # most often; a hundred times as fast
        ids = logits.argmax(-1, keepdim=True)  # the first of equals
        return logits.gather(-1, ids), ids
    values, ids = torch.sort(logits, dim=-1, descending=True, stable=True)
    return values[:, :k].contiguous(), ids[:, :k].contiguous()


def block(
    x: Tensor,  # [rows, hidden]
    weights: BlockOperands,
    shape: BlockShape,
    rows: BatchRows,
    cos: Tensor,  # [rows, head_dim / 2]
    sin: Tensor,
    k_pages: Tensor,  # f16 [pages, kv_heads, PAGE_SIZE, head_dim]
    v_pages: Tensor,
) -> Tensor:
    """One decoder Block on the residual stream. Writes the rows' keys and values into their Seats' Pages."""
    heads, kv_heads = shape.num_heads, shape.num_kv_heads
    qkv = linear(norm_quantize(x, weights.norm1, shape.eps, weights.qkv.group), weights.qkv)
    qk, v = qkv.view(len(x), -1, shape.head_dim).split([heads + kv_heads, kv_heads], 1)
    if weights.q_norm is not None and weights.k_norm is not None:
        q, k = qk.split([heads, kv_heads], 1)
        qk = torch.cat([norm(q, weights.q_norm, shape.eps), norm(k, weights.k_norm, shape.eps)], 1)
    q, k = rope(qk, cos, sin).split([heads, kv_heads], 1)
    write_kv(k, v, rows, k_pages, v_pages)
    seen = attention(q, rows, k_pages, v_pages, shape.window, shape.softcap)
    x = x + linear(quantize(seen, weights.o.group), weights.o)
    gate_up = linear(norm_quantize(x, weights.norm2, shape.eps, weights.gate_up.group), weights.gate_up)
    return linear(gated_quantize(gate_up, weights.down.group), weights.down).add_(x)


def _pieces(weight: Linear, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The matrix as FP32 integers [groups, group, part] and scales [groups, 1, part], in parts of its outputs that
    bound the memory.
    """
    out, padded = weight.weight.shape
    part = max(1, _PRODUCTS // (rows * weight.groups))
    if weight.weight.numel() <= _KEPT:
        kept = weight.prepared.get("reference")
        if kept is None:
            kept = weight.prepared["reference"] = _floats(weight, 0, out)
        integers, steps = kept
        for start in range(0, out, part):
            yield integers[:, :, start : start + part], steps[:, :, start : start + part]
    else:
        part = min(part, max(1, _KEPT // padded))
        for start in range(0, out, part):
            yield _floats(weight, start, min(start + part, out))


def _floats(weight: Linear, start: int, end: int) -> tuple[Tensor, Tensor]:
    integers = weight.weight[start:end].view(end - start, weight.groups, weight.group).transpose(0, 1).float()
    return integers.transpose(1, 2), weight.scale[start:end].t().float().unsqueeze(1).contiguous()
