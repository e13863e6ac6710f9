"""From a checkpoint's tensors to the operands of a Block or of the Ends. Knows their names, the INT8 format and how to
balance columns.

**Format.** Each row of a matrix is cut into groups of G input channels (the last one padded with zeros). A group's
scale is ``fp16(amax / 127)``, its integers are ``w / scale`` rounded half to even, within ±127: divided by the scale
that is stored, so its own rounding costs nothing. Scales below 2^-14 are subnormal and coarse; where such a one would
cut more than half a step off the largest weight, the next larger FP16 is taken. All of it is IEEE arithmetic on one
group, so every machine makes the same bytes.

**Balance.** A column far smaller than its neighbours drowns in the steps of their groups, one far larger drowns them.
So where a column's largest weight is a factor of 2.8 or more from the median of all columns, input channel j of the
matrix is multiplied by the power of two ``2^k_j`` that brings it nearest, and whatever produces that channel is divided
by it: the norm before q, k, v and before gate, up; v's rows before o; up's rows before down. A power of two changes no
bit of any mantissa, so the function stays the same to the last bit before rounding. ``k`` is decided by the weights
alone, and by one matrix of each kind (q for k and v, gate for up), so that a Block is made in one pass with one tensor
in memory at a time. -4 ≤ k ≤ 7: activations are INT8 in the same groups, so an ordinary channel made 16 times larger
leaves its group's others 3 of their 7 bits, and one made 128 times smaller is about one step of its group, whose
rounding then counts no more than its neighbours'; values stay well inside FP16. A tied Head is left as it is: its
matrix is also the embedding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels.types import GROUP, Linear
from model.config import ModelConfig
from model.layout import EMBEDDING, FINAL_NORM, HEAD
from model.parameters import BlockWeights, EndsWeights, FloatLinear
from swarm.errors import CorruptCheckpoint

Read = Callable[[str], Tensor]
"""Gives a tensor by name: bf16, f16 or f32. A Block's names are relative to it, ``"self_attn.q_proj.weight"``."""

LEAST_EXPONENT, MOST_EXPONENT = -4, 7
LEAST_CORRECTION = 2  # in powers of two: smaller differences are left alone
_SLICE = 1 << 22  # weights handled at a time, so that the FP32 working copies stay small


def quantize(weight: Tensor, bias: Tensor | None = None, group: int = GROUP, name: str = "matrix") -> Linear:
    """One matrix [out, in] as it is, without balance. Raises CorruptCheckpoint for NaN, infinity or weights beyond
    FP16's scales.
    """
    matrix = _Matrix(weight.shape[0], weight.shape[1], group)
    matrix.put(name, weight, bias)
    return matrix.linear


def dequantize(linear: Linear) -> Tensor:
    """The FP32 matrix [out, in] that ``linear`` stands for; every product is exact."""
    steps = linear.weight.view(linear.out_features, linear.groups, linear.group).float()
    return (steps * linear.scale.float()[:, :, None]).view(linear.out_features, -1)[:, : linear.in_features]


def quantize_block(read: Read, config: ModelConfig, group: int = GROUP, *, balance: bool = True) -> BlockWeights:
    """One Block in profile c8. ``read`` is called once for each tensor, and one result is alive at a time.

    ``balance=False`` is not c8; benchmarks use it to show what the balance is good for.
    """
    hidden, inner, q_size, kv_size = config.hidden_size, config.intermediate_size, config.q_size, config.kv_size
    kv_heads, head_dim = config.num_kv_heads, config.head_dim

    def fill(
        matrix: _Matrix,
        name: str,
        has_bias: bool,
        columns: Tensor | None = None,
        rows: Tensor | None = None,
        shared: int = 1,
    ) -> Tensor:
        """Appends a tensor, its columns multiplied by ``columns`` or else by its own balance, and returns those."""
        weight = read(f"{name}.weight")
        if columns is None:
            columns = _balance(weight, shared, head_dim) if balance else torch.ones(weight.shape[1])
        matrix.put(name, weight, _floats(read, f"{name}.bias") if has_bias else None, columns, rows)
        return columns

    down, gate_up = _Matrix(hidden, inner, group), _Matrix(2 * inner, hidden, group)
    inner_balance = fill(down, "mlp.down_proj", config.mlp_bias)
    norm2_balance = fill(gate_up, "mlp.gate_proj", config.mlp_bias)
    fill(gate_up, "mlp.up_proj", config.mlp_bias, norm2_balance, inner_balance)

    o, qkv = _Matrix(hidden, q_size, group), _Matrix(q_size + 2 * kv_size, hidden, group)
    shared = config.num_heads // kv_heads
    o_balance = fill(o, "self_attn.o_proj", config.o_bias, shared=shared)
    v_balance = o_balance.view(kv_heads, shared, head_dim)[:, 0].reshape(kv_size)
    norm1_balance = fill(qkv, "self_attn.q_proj", config.qkv_bias)
    fill(qkv, "self_attn.k_proj", config.qkv_bias, norm1_balance)
    fill(qkv, "self_attn.v_proj", config.qkv_bias, norm1_balance, v_balance)

    return BlockWeights(
        norm1=_floats(read, "input_layernorm.weight") / norm1_balance,
        qkv=qkv.linear,
        o=o.linear,
        norm2=_floats(read, "post_attention_layernorm.weight") / norm2_balance,
        gate_up=gate_up.linear,
        down=down.linear,
        q_norm=_floats(read, "self_attn.q_norm.weight") if config.qk_norm else None,
        k_norm=_floats(read, "self_attn.k_norm.weight") if config.qk_norm else None,
    )


def float_block(read: Read, config: ModelConfig) -> BlockWeights:
    """One Block in profile f32: the same tensors, as they are."""

    def linear(*names: str, has_bias: bool) -> FloatLinear:
        weight = torch.cat([_floats(read, f"{name}.weight") for name in names])
        return FloatLinear(weight, torch.cat([_floats(read, f"{name}.bias") for name in names]) if has_bias else None)

    return BlockWeights(
        norm1=_floats(read, "input_layernorm.weight"),
        qkv=linear("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", has_bias=config.qkv_bias),
        o=linear("self_attn.o_proj", has_bias=config.o_bias),
        norm2=_floats(read, "post_attention_layernorm.weight"),
        gate_up=linear("mlp.gate_proj", "mlp.up_proj", has_bias=config.mlp_bias),
        down=linear("mlp.down_proj", has_bias=config.mlp_bias),
        q_norm=_floats(read, "self_attn.q_norm.weight") if config.qk_norm else None,
        k_norm=_floats(read, "self_attn.k_norm.weight") if config.qk_norm else None,
    )


def quantize_ends(
    read: Read, config: ModelConfig, *, embedding: bool, head: bool, group: int = GROUP, balance: bool = True
) -> EndsWeights:
    """The wanted Ends in profile c8; ``read`` takes full names. A tied Head shares the embedding's memory, and has its
    bytes where the embedding is not wanted.
    """
    table = quantize(read(EMBEDDING), group=group, name=EMBEDDING) if embedding or (head and config.tied) else None
    if not head:
        return EndsWeights(embedding=table)
    norm = _floats(read, FINAL_NORM)
    if config.tied:
        return EndsWeights(table if embedding else None, norm, table)
    weight = read(HEAD)
    columns = _balance(weight) if balance else torch.ones(config.hidden_size)
    matrix = _Matrix(config.vocab_size, config.hidden_size, group)
    matrix.put(HEAD, weight, None, columns)
    return EndsWeights(table, norm / columns, matrix.linear)


def float_ends(read: Read, config: ModelConfig, *, embedding: bool, head: bool) -> EndsWeights:
    """The wanted Ends in profile f32."""
    table = FloatLinear(_floats(read, EMBEDDING)) if embedding or (head and config.tied) else None
    if not head:
        return EndsWeights(embedding=table)
    matrix = table if config.tied else FloatLinear(_floats(read, HEAD))
    return EndsWeights(table if embedding else None, _floats(read, FINAL_NORM), matrix)


def _floats(read: Read, name: str) -> Tensor:
    tensor = read(name).float()
    if not torch.isfinite(tensor).all():
        raise CorruptCheckpoint(f"tensor {name!r} holds NaN or infinity")
    return tensor


class _Matrix:
    """A Linear while its rows arrive, so that concatenating never holds two copies."""

    def __init__(self, out: int, width: int, group: int):
        groups = -(-width // group)
        self.linear = Linear(
            torch.zeros(out, groups * group, dtype=torch.int8),
            torch.zeros(out, groups, dtype=torch.float16),
            None,
            width,
        )
        self.filled = 0

    def put(
        self, name: str, weight: Tensor, bias: Tensor | None, columns: Tensor | None = None, rows: Tensor | None = None
    ) -> None:
        """Append ``weight`` [n, in], its columns multiplied by ``columns`` [in] and its rows, bias too, divided by
        ``rows`` [n].
        """
        first, linear = self.filled, self.linear
        group, step = linear.group, max(1, _SLICE // weight.shape[1])
        for start in range(0, len(weight), step):
            part = weight[start : start + step].float()
            if columns is not None:
                part = part * columns
            if rows is not None:
                part = part / rows[start : start + step, None]
            q, scale = _round(
                name, torch.nn.functional.pad(part, (0, -part.shape[1] % group)).view(len(part), -1, group)
            )
            linear.weight[first + start : first + start + len(part)] = q.view(len(part), -1)
            linear.scale[first + start : first + start + len(part)] = scale
        self.filled += len(weight)
        if bias is not None:
            kept = torch.zeros(linear.out_features) if linear.bias is None else linear.bias
            kept[first : self.filled] = bias if rows is None else bias / rows
            self.linear = Linear(linear.weight, linear.scale, kept, linear.in_features)


def _round(name: str, grouped: Tensor) -> tuple[Tensor, Tensor]:
    """f32 [rows, groups, group] -> int8 of the same shape, f16 [rows, groups]."""
    amax = grouped.abs().amax(-1)
    scale = (amax / 127).half()
    if not torch.isfinite(scale).all():  # amax is NaN where any weight is
        raise CorruptCheckpoint(
            f"tensor {name!r} holds NaN, infinity or a weight of {amax.max().item():g}; INT8 groups take up to 8.3e6"
        )
    raised = (scale.view(torch.int16) + 1).view(torch.float16)  # the next larger FP16: scales are never negative
    scale = torch.where(scale.float() * 127.5 < amax, raised, scale)
    divisor = torch.where(scale == 0, torch.ones((), dtype=torch.float16), scale).float()
    return (grouped / divisor[:, :, None]).round_().clamp_(-127, 127).to(torch.int8), scale


def _balance(weight: Tensor, shared: int = 1, head_dim: int = 1) -> Tensor:
    """The power of two for each column of ``weight``. ``shared`` query heads in turn have the channels, and so the
    balance, of one key-value head.
    """
    amax = torch.zeros(weight.shape[1])
    step = max(1, _SLICE // weight.shape[1])
    for start in range(0, len(weight), step):
        amax = torch.maximum(amax, weight[start : start + step].float().abs().amax(0))
    if shared > 1:
        heads = amax.view(-1, shared, head_dim)
        amax = heads.amax(1, keepdim=True).expand_as(heads).reshape(-1)
    # log2 without a logarithm: ratio = mantissa * 2^exponent, and half <= mantissa < 1.
    mantissa, exponent = torch.frexp(amax.median() / amax)
    exponent = torch.where(mantissa < 2**-0.5, exponent - 1, exponent)  # to the nearest power of two
    # Not where a column or the median is zero, infinite or NaN.
    far = torch.isfinite(mantissa) & (mantissa > 0) & (exponent.abs() >= LEAST_CORRECTION)
    exponent = torch.where(far, exponent, 0).clamp(LEAST_EXPONENT, MOST_EXPONENT)
    return ((exponent.to(torch.int32) + 127) << 23).view(torch.float32)
