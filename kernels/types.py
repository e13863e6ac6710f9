"""The operands that every implementation of the arithmetic shares. Knows shapes and dtypes, computes nothing.

These are the canonical forms, and what caches on disk hold; an implementation may keep what it derives from one in its
``prepared``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

PAGE_SIZE = 32  # token slots of a Page
GROUP = 64  # input channels that share a scale; benchmarks/perplexity.py chose it, docs/numerics.md has the table


@dataclass(frozen=True, eq=False)
class Linear:
    """An INT8 matrix. Rows are padded with zeros to a whole number of groups; row o is ``weight[o] * scale[o]`` group
    by group.
    """

    weight: Tensor  # int8 [out, groups * group]
    scale: Tensor  # f16 [out, groups]
    bias: Tensor | None  # f32 [out]
    in_features: int
    prepared: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # an implementation's own copy of it; not part of the value

    def __post_init__(self) -> None:
        out, padded = self.weight.shape
        groups = self.scale.shape[1]
        assert self.scale.shape[0] == out and padded % groups == 0, (
            f"weight {tuple(self.weight.shape)}, scale {tuple(self.scale.shape)}"
        )
        assert padded - self.group < self.in_features <= padded, (
            f"{self.in_features} inputs in {groups} groups of {self.group}"
        )
        assert self.bias is None or self.bias.shape == (out,)

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    @property
    def groups(self) -> int:
        return self.scale.shape[1]

    @property
    def group(self) -> int:
        """Input channels a group."""
        return self.weight.shape[1] // self.scale.shape[1]


@dataclass(frozen=True, eq=False)
class Quantized:
    """Activations as INT8 integers times a scale a row and group; padded like a Linear's rows."""

    values: Tensor  # int8 [rows, groups * group], within +-127
    scale: Tensor  # f32 [rows, groups]


@dataclass(frozen=True, slots=True)
class SeatRows:
    """One Seat's consecutive rows in a Batch: tokens ``position`` up to ``position + count``, its KV in ``pages`` in
    order.
    """

    pages: tuple[int, ...]
    position: int
    count: int

    def __post_init__(self) -> None:
        assert self.position >= 0 and self.count > 0, f"{self.count} rows at position {self.position}"
        needed = -(-(self.position + self.count) // PAGE_SIZE)
        assert needed <= len(self.pages), (
            f"positions up to {self.position + self.count} need {needed} Pages, the Seat has {len(self.pages)}"
        )


@dataclass(frozen=True, eq=False)
class BatchRows:
    """Whose the rows of a Batch are: Seat after Seat, in the order of ``seats``. Made once a Batch, used by all its
    Blocks.
    """

    seats: tuple[SeatRows, ...]
    positions: Tensor  # int64 [rows]
    slots: Tensor  # int64 [rows]: where each row's key and value go, page * PAGE_SIZE + offset
    prepared: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # what an implementation derives from it; not part of the value

    @classmethod
    def of(cls, seats: Sequence[SeatRows]) -> BatchRows:
        positions = [position for seat in seats for position in range(seat.position, seat.position + seat.count)]
        pages = [seat.pages[p // PAGE_SIZE] for seat in seats for p in range(seat.position, seat.position + seat.count)]
        positions_tensor = torch.tensor(positions, dtype=torch.int64)
        return cls(
            tuple(seats),
            positions_tensor,
            torch.tensor(pages, dtype=torch.int64) * PAGE_SIZE + positions_tensor % PAGE_SIZE,
        )

    @property
    def count(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class BlockShape:
    """What a Block's operands do not say themselves."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float
    window: int | None = None  # positions that a query sees, its own included; None: all before it
    softcap: float | None = None  # scores are bent into +-softcap by a tanh; None: they are not


class BlockOperands(Protocol):
    """A Block's weights in profile c8; ``model.parameters.BlockWeights`` is one."""

    @property
    def norm1(self) -> Tensor: ...  # f32 [hidden]
    @property
    def qkv(self) -> Linear: ...
    @property
    def q_norm(self) -> Tensor | None: ...  # f32 [head_dim]
    @property
    def k_norm(self) -> Tensor | None: ...
    @property
    def o(self) -> Linear: ...
    @property
    def norm2(self) -> Tensor: ...
    @property
    def gate_up(self) -> Linear: ...
    @property
    def down(self) -> Linear: ...
