"""The arithmetic of profile c8: one set of signatures, one definition (``reference``), implementations that equal it
bit by bit.

``select()`` chooses the implementation once, at start; nobody else knows which one runs. The native ones live in a
compiled extension; a machine without it runs the reference, slowly, and says so.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from swarm.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, device

    from kernels.types import BatchRows, BlockShape, Quantized

Layout = Literal["rows", "panels"]

VARIABLE = "SHOAL_ISA"
REFERENCE = "reference"

log = logging.getLogger(__name__)


class Kernels(Protocol):
    """An implementation: ``kernels.reference`` itself, or an object of another. Its functions are documented there.

    A matrix is a ``types.Linear`` where ``layout`` is "rows", ``panels.Panels`` where it is "panels", and each is Any
    here; ``weights`` is a Block of such (``types.BlockOperands``). Not safe to call from two threads at once.
    """

    @property
    def name(self) -> str: ...  # "reference", "portable", "avx2", "avx512" or "cuda"
    @property
    def layout(self) -> Layout: ...
    @property
    def device(self) -> device: ...  # where operands have to be, and results are

    def quantize(self, x: Tensor, group: int) -> Quantized: ...
    def linear(self, x: Quantized, weight: Any) -> Tensor: ...
    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor: ...
    def norm_quantize(self, x: Tensor, weight: Tensor, eps: float, group: int) -> Quantized: ...
    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor: ...
    def gated_quantize(self, gate_up: Tensor, group: int) -> Quantized: ...
    def embedding_rows(self, table: Any, token_ids: Tensor) -> Tensor: ...
    def top_k(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]: ...
    def write_kv(self, k: Tensor, v: Tensor, rows: BatchRows, k_pages: Tensor, v_pages: Tensor) -> None: ...
    def attention(
        self,
        q: Tensor,
        rows: BatchRows,
        k_pages: Tensor,
        v_pages: Tensor,
        window: int | None,
        softcap: float | None = None,
    ) -> Tensor: ...
    def block(
        self,
        x: Tensor,
        weights: Any,
        shape: BlockShape,
        rows: BatchRows,
        cos: Tensor,
        sin: Tensor,
        k_pages: Tensor,
        v_pages: Tensor,
    ) -> Tensor: ...


def select(name: str | None = None, threads: int | None = None, environ: Mapping[str, str] = os.environ) -> Kernels:
    """The implementation called ``name``, or by the environment's SHOAL_ISA, or the fastest that runs here. A native
    one computes with ``threads`` threads (default: a thread a core); the reference with torch's.

    Raises UsageError, with those that can be had, for a name that does not exist or does not run on this machine.
    """
    wanted = name or environ.get(VARIABLE) or None
    native = _native() if wanted != REFERENCE else None
    if isinstance(native, str):
        if wanted is None:
            _warn(native)
        chosen = choose(wanted, (), f"; the native kernels cannot be loaded ({native})")
    else:
        chosen = choose(wanted, () if native is None else native.available())
    if isinstance(native, _Native) and chosen != REFERENCE:
        threads = threads or len(os.sched_getaffinity(0))
        try:
            return native.open(chosen, threads)
        except RuntimeError as error:  # the system gives no more threads
            raise UsageError(f"{error}; ask for fewer --threads") from None
    from kernels import reference

    return reference


def choose(wanted: str | None, native: Sequence[str], why_not_more: str = "") -> str:
    """``wanted``, or the best of ``native`` (best first), or else the reference. Raises UsageError."""
    can = (*native, REFERENCE)
    if wanted is None:
        return can[0]
    if wanted not in can:
        raise UsageError(f"{VARIABLE} {wanted!r} cannot be had here, expected one of: {', '.join(can)}{why_not_more}")
    return wanted


class _Native(NamedTuple):
    available: Callable[[], tuple[str, ...]]  # best first
    open: Callable[[str, int], Kernels]


@functools.cache
def _native() -> _Native | str:
    """What ``kernels.native`` offers, or why it cannot be loaded."""
    try:
        from kernels.native import available
        from kernels.native import open as open_native
    except ImportError as error:
        return " ".join(str(error).split())
    return _Native(available, open_native)


@functools.cache
def _warn(why: str) -> None:  # once
    log.warning(
        "the native kernels cannot be loaded (%s): computing with the reference, which is exact but many times slower; "
        "install a C++20 compiler and then shoal again (pip install .)",
        why,
    )
