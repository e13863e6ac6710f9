"""Profile: the name of an exact definition of the arithmetic. What it stands for is ``kernels``' and ``model``'s."""

from __future__ import annotations

from typing import Literal

Profile = Literal["c8", "f32"]  # INT8 weights and exact whatever the Batch and the Route; plain FP32
PROFILES: tuple[Profile, ...] = ("c8", "f32")

APPROXIMATE = "c8-approx"
"""What a Peer announces that computes c8 on a device which does not keep its bits. No machine promises to repeat such a
Peer's numbers, not even another one of them. A client that asks for it allows both kinds on its Route.
"""


def accepts(wanted: str, offered: str) -> bool:
    """Whether a Session that wants one profile may use a Peer of the other: the same, or an exact one for want of
    less.
    """
    return offered == wanted or (wanted == APPROXIMATE and offered == "c8")
