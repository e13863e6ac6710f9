"""PanelKernels: an implementation that wants panels, for tests of everything around the real ones. It unpacks and asks
the reference. ``fake_native`` is a machine that has it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import kernels
from kernels import Kernels, Layout, reference
from kernels.panels import Panels, unpack
from kernels.types import Linear
from model.parameters import BlockWeights


class PanelKernels:
    """Bit for bit the reference. ``seen`` are the matrices that came."""

    name = "panel-twin"
    layout: Layout = "panels"
    device = reference.device

    def __init__(self) -> None:
        self.seen: list[Panels] = []

    def __getattr__(self, function: str) -> Any:
        assert function in reference.__all__, f"the reference has no {function}"

        def call(*operands: Any, **options: Any) -> Any:
            return getattr(reference, function)(*map(self._unpacked, operands), **options)

        return call

    def _unpacked(self, operand: Any) -> Any:
        assert not isinstance(operand, Linear), "rows came where panels are wanted"
        if isinstance(operand, Panels):
            self.seen.append(operand)
            return unpack(operand)
        if isinstance(operand, BlockWeights):
            return BlockWeights(**{name: self._unpacked(value) for name, value in vars(operand).items()})
        return operand


class FakeNative(ModuleType):
    """``kernels.native`` where two are available; ``opened`` are the names and threads that were asked for."""

    def __init__(self) -> None:
        super().__init__("kernels.native")
        self.opened: list[tuple[str, int]] = []

    def available(self) -> tuple[str, ...]:
        return "avx2", "portable"

    def open(self, name: str, threads: int) -> Kernels:
        self.opened.append((name, threads))
        return PanelKernels()


@contextmanager
def fake_native() -> Iterator[FakeNative]:
    """Within, ``kernels.select`` finds this instead of the real ones."""
    real, fake = sys.modules.get("kernels.native"), FakeNative()
    sys.modules["kernels.native"] = fake
    kernels._native.cache_clear()
    try:
        yield fake
    finally:
        kernels._native.cache_clear()
        del sys.modules["kernels.native"]
        if real is not None:
            sys.modules["kernels.native"] = real
