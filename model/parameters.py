"""What a Span is made of once it is in memory: the operands of its Blocks and Ends. Knows no file, no dtype of a
checkpoint, no arithmetic.

A matrix of profile c8 is a ``kernels.types.Linear``, or ``kernels.panels.Panels`` where the implementation of the
arithmetic wants those; one of profile f32 is a ``FloatLinear``. Everything else is FP32 in both. ``quantize`` makes
these from a checkpoint's tensors, ``weights`` fetches the tensors, ``cache`` keeps the result on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from kernels import Layout
from kernels.panels import Panels, pack
from kernels.types import Linear


@dataclass(frozen=True, eq=False)
class FloatLinear:
    """A matrix of profile f32: ``x @ weight.T + bias``."""

    weight: Tensor  # f32 [out, in]
    bias: Tensor | None = None  # f32 [out]

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]


AnyLinear = Linear | Panels | FloatLinear


@dataclass(frozen=True, eq=False)
class BlockWeights:
    """One Block. ``qkv`` holds the rows of q, then k, then v; ``gate_up`` those of gate, then up."""

    norm1: Tensor  # f32 [hidden]
    qkv: AnyLinear
    o: AnyLinear
    norm2: Tensor  # f32 [hidden]
    gate_up: AnyLinear
    down: AnyLinear
    q_norm: Tensor | None = None  # f32 [head_dim]
    k_norm: Tensor | None = None  # f32 [head_dim]


@dataclass(frozen=True, eq=False)
class EndsWeights:
    """Those Ends that touch the Span: ``embedding`` before Block 0, ``norm`` and ``head`` after the last. Tied: ``head
    is embedding``.
    """

    embedding: AnyLinear | None = None  # [vocab, hidden]
    norm: Tensor | None = None  # f32 [hidden]
    head: AnyLinear | None = None  # [vocab, hidden]


@dataclass(frozen=True, eq=False)
class SpanWeights:
    blocks: tuple[BlockWeights, ...]
    ends: EndsWeights = EndsWeights()

    @property
    def nbytes(self) -> int:
        """Bytes of distinct tensors; what is shared counts once."""
        found: dict[int, int] = {}
        for part in (*self.blocks, self.ends):
            for tensor in tensors(part):
                found[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return sum(found.values())


Part = TypeVar("Part", BlockWeights, EndsWeights)


def in_layout(part: Part, layout: Layout) -> Part:
    """The part with its INT8 matrices as ``layout`` has them; one that is shared stays shared.

    Matrix by matrix: where nobody else holds the part, each is freed once it is packed, so that no more than one is in
    memory twice.
    """
    if layout == "rows":
        return part
    kind, values = type(part), dict(vars(part))
    del part
    for name in list(values):
        if not isinstance(values[name], Linear):
            continue
        shared = [other for other in values if values[other] is values[name]]
        values.update(dict.fromkeys(shared, pack(values[name])))
    return kind(**values)


def on_device(part: Part, device: torch.device) -> Part:
    """The part with its tensors on ``device``; a matrix that is shared stays shared."""
    moved: dict[int, Linear] = {}

    def there(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device)
        if isinstance(value, Linear) and id(value) not in moved:
            moved[id(value)] = Linear(
                value.weight.to(device),
                value.scale.to(device),
                None if value.bias is None else value.bias.to(device),
                value.in_features,
            )
        return moved.get(id(value), value)

    return type(part)(**{name: there(value) for name, value in vars(part).items()})


def tensors(part: BlockWeights | EndsWeights) -> Iterator[Tensor]:
    """Every tensor of a Block or of the Ends, in the order of the fields."""
    for value in vars(part).values():
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, AnyLinear):
            yield from (inner for inner in vars(value).values() if isinstance(inner, torch.Tensor))
