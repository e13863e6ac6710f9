"""Where the Triton kernels are tested: on the CPU by Triton's interpreter, or, with TRITON_INTERPRET=0, on a GPU.

Triton decides when it is imported, so tests/conftest.py says TRITON_INTERPRET=1 before any test module is.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

from kernels.types import BatchRows


def device_or_skip() -> torch.device:
    """At the top of a test module, before it imports kernels.triton_*. Skips the module where they cannot run."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed: pip install 'shoal[cuda]'", allow_module_level=True)
    import triton
    from triton.runtime.interpreter import InterpretedFunction

    if isinstance(triton.language.sum, InterpretedFunction) and os.environ.get("TRITON_INTERPRET") == "1":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("no GPU, and TRITON_INTERPRET was not 1 when Triton was imported", allow_module_level=True)
    return torch.device("cuda")


def there(value: Any, device: torch.device) -> Any:
    """``value`` with all its tensors on ``device``: a tensor, or a dataclass or tuple of such. A Batch's rows stay."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(there(part, device) for part in value)
    if is_dataclass(value) and not isinstance(value, type | BatchRows):
        made = {field.name: there(getattr(value, field.name), device) for field in fields(value) if field.init}
        return type(value)(**made | ({"prepared": {}} if "prepared" in made else {}))
    return value


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """The same shape, dtype and bytes; all NaNs are one."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = a.cpu().contiguous(), b.cpu().contiguous()
    if a.is_floating_point():
        a, b = (torch.where(t.isnan(), torch.nan, t) for t in (a, b))
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8))
