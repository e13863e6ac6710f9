"""Profile: the name of an exact definition of the arithmetic. What it stands for is ``kernels``' and ``model``'s."""

from __future__ import annotations

from typing import Literal

Profile = Literal["c8", "f32"]  # INT8 weights and exact whatever the Batch and the Route; plain FP32
PROFILES: tuple[Profile, ...] = ("c8", "f32")
