"""Hidden states ↔ bytes: torch tensors in FP32 here, F32 or BF16 on the wire.

BF16 is the upper half of FP32, rounded to nearest, ties to even: what ``model`` does to the residual stream when a
Session asked for bf16, so that rounding here changes nothing that was rounded there. NaN and infinity end here, in
both directions: one of them in the KV cache would poison everything that follows.
"""

from __future__ import annotations

import sys

import torch

from proto.messages import Hidden, WireDType
from swarm.errors import BadNumbers, BadRequest

assert sys.byteorder == "little", "the wire is little-endian, and so is every machine that torch runs on"

_TORCH = {WireDType.F32: torch.float32, WireDType.BF16: torch.bfloat16}


def to_hidden(tensor: torch.Tensor, dtype: WireDType) -> Hidden:
    """``tensor`` [rows, cols] FP32 as it travels. Raises BadNumbers when an element is not, or becomes not, finite."""
    assert tensor.dtype is torch.float32 and tensor.dim() == 2, f"{tensor.dtype} {tuple(tensor.shape)}"
    wire = tensor.detach().to("cpu", _TORCH[dtype]).contiguous()
    _check_finite(wire)
    rows, cols = wire.shape
    return Hidden(dtype, rows, cols, wire.view(torch.uint8).numpy().tobytes())


def from_hidden(hidden: Hidden) -> torch.Tensor:
    """FP32 [rows, cols] of its own memory. Raises BadNumbers on NaN or infinity, BadRequest when the sizes disagree."""
    expected = hidden.rows * hidden.cols * hidden.dtype.itemsize
    if len(hidden.data) != expected or expected == 0:
        shape = f"[{hidden.rows}, {hidden.cols}] {hidden.dtype.name}"
        raise BadRequest(f"hidden states {shape} came with {len(hidden.data)} bytes, expected {expected}")
    # The bytes are not writable and torch would warn of that, so they are copied; the copy is the tensor's own.
    flat = torch.frombuffer(bytearray(hidden.data), dtype=_TORCH[hidden.dtype])
    _check_finite(flat)
    return flat.to(torch.float32).view(hidden.rows, hidden.cols)


def _check_finite(wire: torch.Tensor) -> None:
    if not bool(torch.isfinite(wire).all()):
        raise BadNumbers("hidden states hold NaN or infinity")
