"""The reference with some functions replaced, for tests of those who look for a wrong implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kernels import Layout, reference


class Variant:
    """``Variant(linear=wrong)``. Its block is still the reference's unless that is replaced."""

    name = "variant"
    layout: Layout = "rows"
    device = torch.device("cpu")

    def __init__(self, **replaced: Callable[..., Any]):
        for function in reference.__all__:
            setattr(self, function, replaced.get(function, getattr(reference, function)))
