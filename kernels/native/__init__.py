"""The arithmetic of profile c8 in C++, behind the signatures of ``kernels.reference``. This file makes outputs and
handles; what is computed, and what is checked of the arguments, is in the C++ beside it.

The extension ``shoal_native`` lies outside this package, in site-packages, so that a checkout on sys.path cannot hide
it. Importing this module raises ImportError where it was not built.

Handles (a matrix's, a Block's, a Batch's rows') are made at first use and live as long as what they stand for.
"""

from __future__ import annotations

from typing import Any, Literal
from weakref import WeakKeyDictionary

import shoal_native
import torch
from torch import Tensor

from kernels.panels import Panels
from kernels.types import GROUP, BatchRows, BlockOperands, BlockShape, Quantized

MOST_HEAD_DIM = 512


def available() -> tuple[str, ...]:
    """The variants that were built and that this machine can run, best first."""
    return tuple(shoal_native.variants())


def open(name: str, threads: int) -> Native:
    """Raises ValueError for a variant that is not ``available``."""
    return Native(name, threads)


class Native:
    """One variant with its threads, which sleep between calls and end with this object.

    Calls let go of the GIL; calls from several threads take turns. Every function raises ValueError or TypeError that
    names the argument whose dtype, shape or layout is not what it expects. Groups are ``GROUP`` channels, no others.
    """

    layout: Literal["panels"] = "panels"

    def __init__(self, name: str, threads: int):
        self._engine = shoal_native.Engine(name, threads)
        self._matrices: WeakKeyDictionary[Panels, Any] = WeakKeyDictionary()
        self._blocks: WeakKeyDictionary[Any, tuple[BlockShape, Any]] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def threads(self) -> int:
        return self._engine.threads

    def quantize(self, x: Tensor, group: int) -> Quantized:
        out = _quantized(len(x), x.shape[1], group)
        self._engine.quantize(x, out.values, out.scale)
        return out

    def linear(self, x: Quantized, weight: Panels) -> Tensor:
        y = torch.empty(len(x.values), weight.out_features)
        self._engine.linear(x.values, x.scale, self._matrix(weight), y)
        return y

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y = torch.empty(x.shape)
        self._engine.norm(x.reshape(-1, x.shape[-1]), weight, eps, y.view(-1, x.shape[-1]))
        return y

    def norm_quantize(self, x: Tensor, weight: Tensor, eps: float, group: int) -> Quantized:
        out = _quantized(len(x), x.shape[1], group)
        self._engine.norm_quantize(x, weight, eps, out.values, out.scale)
        return out

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        y = torch.empty(x.shape)
        self._engine.rope(x.contiguous(), cos, sin, y)
        return y

    def gated_quantize(self, gate_up: Tensor, group: int) -> Quantized:
        out = _quantized(len(gate_up), gate_up.shape[1] // 2, group)
        self._engine.gated_quantize(gate_up, out.values, out.scale)
        return out

    def embedding_rows(self, table: Panels, token_ids: Tensor) -> Tensor:
        y = torch.empty(len(token_ids), table.in_features)
        self._engine.embedding_rows(self._matrix(table), token_ids, y)
        return y

    def top_k(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        values = torch.empty(len(logits), k)
        ids = torch.empty(len(logits), k, dtype=torch.int64)
        self._engine.top_k(logits, values, ids)
        return values, ids

    def write_kv(self, k: Tensor, v: Tensor, rows: BatchRows, k_pages: Tensor, v_pages: Tensor) -> None:
        self._engine.write_kv(k.contiguous(), v.contiguous(), _rows(rows), k_pages, v_pages)

    def attention(
        self,
        q: Tensor,
        rows: BatchRows,
        k_pages: Tensor,
        v_pages: Tensor,
        window: int | None,
        softcap: float | None = None,
    ) -> Tensor:
        y = torch.empty(len(q), q.shape[1] * q.shape[2])
        self._engine.attention(q.contiguous(), _rows(rows), k_pages, v_pages, window or 0, softcap or 0.0, y)
        return y

    def block(
        self,
        x: Tensor,
        weights: BlockOperands,
        shape: BlockShape,
        rows: BatchRows,
        cos: Tensor,
        sin: Tensor,
        k_pages: Tensor,
        v_pages: Tensor,
    ) -> Tensor:
        """The whole Block in one call."""
        known = self._blocks.get(weights)
        if known is None or known[0] != shape:
            known = self._blocks[weights] = shape, self._block(weights, shape)
        y = torch.empty_like(x)
        self._engine.block(x, known[1], _rows(rows), cos, sin, k_pages, v_pages, y)
        return y

    def read_sum(self, buffer: Tensor) -> int:
        """The sum of the 64-bit words of a uint8 tensor: what reading memory costs. For benchmarks."""
        return self._engine.read_sum(buffer)

    def _matrix(self, panels: Panels) -> Any:
        handle = self._matrices.get(panels)
        if handle is None:
            handle = shoal_native.Matrix(panels.data, panels.bias, panels.out_features, panels.in_features)
            self._matrices[panels] = handle
        return handle

    def _block(self, weights: BlockOperands, shape: BlockShape) -> Any:
        return shoal_native.Block(
            weights.norm1,
            self._matrix(weights.qkv),  # pyright: ignore[reportArgumentType] Panels, since layout says so
            weights.q_norm,
            weights.k_norm,
            self._matrix(weights.o),  # pyright: ignore[reportArgumentType]
            weights.norm2,
            self._matrix(weights.gate_up),  # pyright: ignore[reportArgumentType]
            self._matrix(weights.down),  # pyright: ignore[reportArgumentType]
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_dim,
            shape.eps,
            shape.window or 0,
            shape.softcap or 0.0,
        )


def _rows(rows: BatchRows) -> Any:
    handle = rows.prepared.get("native")
    if handle is None:
        seats = [(seat.pages, seat.position, seat.count) for seat in rows.seats]
        handle = rows.prepared["native"] = shoal_native.Rows(seats)
    return handle


def _quantized(rows: int, width: int, group: int) -> Quantized:
    if group != GROUP:
        raise ValueError(f"group: the native kernels have groups of {GROUP} channels, got {group}")
    groups = -(-width // GROUP)
    return Quantized(torch.empty(rows, groups * GROUP, dtype=torch.int8), torch.empty(rows, groups))
