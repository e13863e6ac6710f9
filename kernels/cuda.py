"""The implementation ``cuda``: the Triton kernels as one object of ``kernels.Kernels``, and whether a GPU keeps c8.

Its functions take tensors on the device and return tensors there; only ``token_ids`` and a Batch's rows may still be on
the host. Matrices are canonical ``Linear``s. A Block is ten launches. What is multiplied, added and divided is the
reference's, in its order; that the device and its compiler do exactly that is tried at start, not assumed: ``profile``.

Triton is an optional extra, so nothing is imported before ``open_device``.
"""

from __future__ import annotations

import importlib.util
import logging

import torch
from torch import Tensor

from kernels import Layout, reference
from kernels.selfcheck import departures
from kernels.types import BatchRows, BlockOperands, BlockShape
from swarm.errors import UsageError
from swarm.profile import APPROXIMATE

EXACT = "c8"
INSTALL = "pip install 'shoal[cuda]'"
LEAST_CAPABILITY = (8, 0)  # of tensor cores that Triton gives INT8 to

log = logging.getLogger(__name__)


class Cuda:
    """The kernels on ``device``. Made by ``open_device``; tests make one on the CPU, under Triton's interpreter."""

    name = "cuda"
    layout: Layout = "rows"

    def __init__(self, device: torch.device):
        from kernels import triton_attention, triton_linear, triton_rows

        self.device = device
        self.attention = triton_attention.attention
        self.device_rows = triton_attention.DeviceRows.of
        self.embedding_rows = triton_linear.embedding_rows
        self.gated_quantize = triton_rows.gated_quantize
        self.heads = triton_rows.heads
        self.linear = triton_linear.linear
        self.norm = triton_rows.norm
        self.norm_quantize = triton_rows.norm_quantize
        self.quantize = triton_rows.quantize
        self.rope = triton_rows.rope
        self.top_k = reference.top_k  # of logits, which are on the host
        self.write_kv = triton_attention.write_kv

    def block(
        self,
        x: Tensor,  # [rows, hidden]
        weights: BlockOperands,
        shape: BlockShape,
        rows: BatchRows,
        cos: Tensor,  # [rows, head_dim / 2]
        sin: Tensor,
        k_pages: Tensor,  # f16 [pages, kv_heads, PAGE_SIZE, head_dim]
        v_pages: Tensor,
    ) -> Tensor:
        """One decoder Block on the residual stream: ``reference.block``. Writes the rows' keys and values."""
        norms = None
        if weights.q_norm is not None and weights.k_norm is not None:
            norms = (weights.q_norm, weights.k_norm)
        slots = self.device_rows(rows, x.device).slots
        normed = self.norm_quantize(x, weights.norm1, shape.eps, weights.qkv.group)
        qkv = self.linear(normed, weights.qkv)
        q = self.heads(
            qkv, shape.num_heads, shape.head_dim, norms, shape.eps, cos, sin, slots, k_pages, v_pages
        )  # [rows, heads, head_dim]
        seen = self.attention(q, rows, k_pages, v_pages, shape.window, shape.softcap)
        x = self.linear(self.quantize(seen, weights.o.group), weights.o, residual=x)
        normed = self.norm_quantize(x, weights.norm2, shape.eps, weights.gate_up.group)
        gate_up = self.linear(normed, weights.gate_up)
        return self.linear(self.gated_quantize(gate_up, weights.down.group), weights.down, residual=x)

    @property
    def free_bytes(self) -> int:
        """Of the GPU's memory, now."""
        return torch.cuda.mem_get_info(self.device)[0]

    def profile(self) -> str:
        """``"c8"`` if this device gives the written-down bits of the definition, otherwise ``"c8-approx"``: the same
        weights and roundings, but bits that no other machine promises to repeat. A few seconds, most of them compiling.
        """
        strange = departures(self, self.device)
        if strange:
            log.warning("%s departs from c8's bits in: %s", describe(self.device), ", ".join(strange))
        return APPROXIMATE if strange else EXACT


def open_device(name: str = "cuda") -> Cuda:
    """The kernels on the GPU called ``name``, as torch calls it: "cuda" or "cuda:1".

    Raises UsageError where it cannot be had, with what to do about it.
    """
    if importlib.util.find_spec("triton") is None:
        raise UsageError(f"--device {name} needs Triton, which is not installed: {INSTALL}, or use --device cpu")
    if torch.version.cuda is None:
        raise UsageError(
            f"--device {name} needs a torch with CUDA and this is {torch.__version__}: pip uninstall torch, then "
            f"{INSTALL}, or use --device cpu"
        )
    if not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch sees no GPU; see what nvidia-smi says, or use --device cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device is {name!r}, expected cpu, cuda or cuda:N") from None
    index = torch.cuda.current_device() if device.index is None else device.index
    if device.type != "cuda" or index >= torch.cuda.device_count():
        raise UsageError(f"--device is {name!r}, expected cpu or cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    capability = torch.cuda.get_device_capability(index)
    if capability < LEAST_CAPABILITY:
        raise UsageError(
            f"--device {name}: {torch.cuda.get_device_name(index)} has compute capability {capability[0]}."
            f"{capability[1]}, expected {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]} or newer; use --device cpu"
        )
    return Cuda(torch.device("cuda", index))


def describe(device: torch.device) -> str:
    """For a log line: "NVIDIA H200"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
