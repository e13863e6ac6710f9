"""The arithmetic of profile c8 in C++, behind the signatures of ``kernels.reference``. This file makes outputs and
handles; what is computed, and what is checked of the arguments, is in the C++ beside it.

The extension ``shoal_native`` lies outside this package, in site-packages, so that a checkout on sys.path cannot hide
it. Importing this module raises ImportError where it was not built.

Handles (a matrix's, a Block's, a Batch's rows') are made at first use and live as long as what they stand for.
"""

from __future__ import annotations

from typing import Any, Literal
from weakref import WeakKeyDictionary

import shoal_native  # pyright: ignore[reportMissingImports] built where there is a compiler
import torch
from torch import Tensor

from kernels.panels import Panels
from kernels.types import GROUP, BatchRows, BlockOperands, BlockShape, Quantized


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
    device = torch.device("cpu")

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
        rows, width = _shape(x, "x", 2)
        out = _quantized(rows, width, group)
        self._engine.quantize(x, out.values, out.scale)
        return out

    def linear(self, x: Quantized, weight: Panels) -> Tensor:
        rows, _ = _shape(x.values, "x.values", 2)
        y = torch.empty(rows, _panels(weight, "weight").out_features)
        self._engine.linear(x.values, x.scale, self._matrix(weight), y)
        return y

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        _tensor(x, "x")
        if not x.dim() or not x.shape[-1]:
            raise ValueError(f"x: expected rows of at least one channel, got {list(x.shape)}")
        y, width = torch.empty(x.shape), x.shape[-1]
        self._engine.norm(x.reshape(-1, width), weight, eps, y.view(-1, width))
        return y

    def norm_quantize(self, x: Tensor, weight: Tensor, eps: float, group: int) -> Quantized:
        rows, width = _shape(x, "x", 2)
        out = _quantized(rows, width, group)
        self._engine.norm_quantize(x, weight, eps, out.values, out.scale)
        return out

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        y = torch.empty(_shape(x, "x", 3))
        self._engine.rope(x.contiguous(), cos, sin, y)
        return y

    def gated_quantize(self, gate_up: Tensor, group: int) -> Quantized:
        rows, width = _shape(gate_up, "gate_up", 2)
        out = _quantized(rows, width // 2, group)
        self._engine.gated_quantize(gate_up, out.values, out.scale)
        return out

    def embedding_rows(self, table: Panels, token_ids: Tensor) -> Tensor:
        (count,) = _shape(token_ids, "token_ids", 1)
        y = torch.empty(count, _panels(table, "table").in_features)
        self._engine.embedding_rows(self._matrix(table), token_ids, y)
        return y

    def top_k(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows, vocab = _shape(logits, "logits", 2)
        if not 0 <= k <= vocab:
            raise ValueError(f"k: expected 0 to {vocab}, got {k}")
        values, ids = torch.empty(rows, k), torch.empty(rows, k, dtype=torch.int64)
        self._engine.top_k(logits, values, ids)
        return values, ids

    def write_kv(self, k: Tensor, v: Tensor, rows: BatchRows, k_pages: Tensor, v_pages: Tensor) -> None:
        _tensor(k, "k")
        _tensor(v, "v")
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
        count, heads, head_dim = _shape(q, "q", 3)
        y = torch.empty(count, heads * head_dim)
        self._engine.attention(q.contiguous(), _rows(rows), k_pages, v_pages, *_options(window, softcap), y)
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
        _tensor(x, "x")
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
            self._matrix(_panels(weights.qkv, "qkv")),
            weights.q_norm,
            weights.k_norm,
            self._matrix(_panels(weights.o, "o")),
            weights.norm2,
            self._matrix(_panels(weights.gate_up, "gate_up")),
            self._matrix(_panels(weights.down, "down")),
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_dim,
            shape.eps,
            *_options(shape.window, shape.softcap),
        )


def _tensor(x: Any, name: str) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")


def _shape(x: Any, name: str, dims: int) -> torch.Size:
    _tensor(x, name)
    if x.dim() != dims:
        raise ValueError(f"{name}: expected {dims} dimensions, got {list(x.shape)}")
    return x.shape


def _panels(matrix: Any, name: str) -> Panels:
    if not isinstance(matrix, Panels):
        raise TypeError(f"{name}: expected a matrix in Panels, got {type(matrix).__name__}")
    return matrix


def _options(window: int | None, softcap: float | None) -> tuple[int, float]:
    """As the extension takes them: 0 for none. A window that sees nothing and a cap of nothing are mistakes."""
    if window is not None and not 0 < window < 1 << 31:
        raise ValueError(f"window: expected at least 1 and less than 2^31, or None, got {window}")
    if softcap is not None and not 0.0 < softcap < float("inf"):
        raise ValueError(f"softcap: expected a positive number or None, got {softcap}")
    return window or 0, softcap or 0.0


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
