"""From a checkpoint to the operands of one Span, tensor by tensor: from the cache where it has them, otherwise read and
quantised.

Nothing but the Span's own tensors is read: those of its Blocks, the embedding where it starts at Block 0, final norm
and Head where it ends with the last. Besides the result, no more than the tensor at hand is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from kernels.types import Linear
from model.cache import Cache
from model.config import ModelConfig
from model.fingerprint import fingerprint
from model.layout import EMBEDDING, FINAL_NORM, block_prefix, block_tensors, check_tensors, head_tensor
from model.parameters import BlockWeights, EndsWeights, SpanWeights
from model.quantize import float_block, float_ends, quantize_block, quantize_ends
from model.source import Source
from swarm.errors import CorruptCheckpoint, UsageError
from swarm.profile import PROFILES, Profile
from swarm.span import Span

Progress = Callable[[int, int], None]
"""Hears (bytes done, bytes in all) of the Span's checkpoint bytes."""

Part = TypeVar("Part", BlockWeights, EndsWeights)
_SLICE = 1 << 20  # numbers looked at together


def load_span(
    source: Source,
    config: ModelConfig,
    span: Span,
    profile: Profile = "c8",
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> SpanWeights:
    """The weights of ``span`` and of the Ends that touch it. Profile c8 is cached under ``cache_dir``, None for
    nowhere.

    Raises UsageError for a Span that the model does not have, CorruptCheckpoint for tensors that are missing, of the
    wrong shape, hold NaN or change meanwhile, UnsupportedModel for dtypes other than bf16, f16 and f32, ModelError when
    the Hub fails.
    """
    if not config.span.covers(span):
        raise UsageError(f"{config.name} has Blocks {config.span}, it cannot serve {span}; give a range within")
    if profile not in PROFILES:
        raise UsageError(f"there is no profile {profile!r}; choose one of {', '.join(PROFILES)}")
    check_tensors(source, config)
    cache = None
    if cache_dir is not None and profile == "c8":
        cache = Cache(Path(cache_dir), fingerprint(source, config), source.identity)
    return _Loader(source, config, span, profile, cache, progress).load()


def span_tensors(config: ModelConfig, span: Span) -> list[str]:
    """The names of all tensors that a Peer of ``span`` reads."""
    names = [name for block in span for name in block_tensors(config, block)]
    ends = [EMBEDDING] if span.start == 0 else []
    if span.end == config.num_blocks:
        ends += [FINAL_NORM, head_tensor(config)]
    return [*dict.fromkeys(ends), *names]


class _Loader:
    """One ``load_span``: what it works with, and how far it is."""

    def __init__(
        self,
        source: Source,
        config: ModelConfig,
        span: Span,
        profile: Profile,
        cache: Cache | None,
        progress: Progress | None,
    ):
        self.source, self.config, self.span, self.profile, self.cache = source, config, span, profile, cache
        self.progress = progress
        self.total = sum(source.tensors[name].nbytes for name in span_tensors(config, span))
        self.done = 0

    def load(self) -> SpanWeights:
        self._advance(0)
        ends = self._ends()  # the largest tensors first, while nothing else is in memory
        return SpanWeights(tuple(self._block(block) for block in self.span), ends)

    def _block(self, block: int) -> BlockWeights:
        prefix = block_prefix(block)
        make = quantize_block if self.profile == "c8" else float_block
        return self._part(
            f"block-{block:04d}",
            list(block_tensors(self.config, block)),
            lambda: make(lambda name: self._read(prefix + name), self.config),
            lambda tensors: _block_of(tensors, self.config),
        )

    def _ends(self) -> EndsWeights:
        make = quantize_ends if self.profile == "c8" else float_ends
        first, last = self.span.start == 0, self.span.end == self.config.num_blocks

        def part(name: str, names: list[str], *, head: bool) -> EndsWeights:
            return self._part(
                name,
                names,
                lambda: make(self._read, self.config, embedding=not head, head=head),
                lambda tensors: _ends_of(tensors, self.config),
            )

        head = part("head", [FINAL_NORM, head_tensor(self.config)], head=True) if last else EndsWeights()
        if not first:
            return head
        shared = self.config.tied and last
        embedding = head.head if shared else part("embedding", [EMBEDDING], head=False).embedding
        return EndsWeights(embedding, head.norm, head.head)

    def _part(
        self, part: str, names: list[str], make: Callable[[], Part], restore: Callable[[Mapping[str, Tensor]], Part]
    ) -> Part:
        """One cached unit: a Block or an End."""
        after = self.done + sum(self.source.tensors[name].nbytes for name in names)
        cached = self.cache.load(part) if self.cache is not None else None
        if cached is not None:
            made = restore(cached)
        else:
            made = make()
            self.source.check_unchanged(names)  # or it is of two checkpoints, and none that the cache could name
            if self.cache is not None:
                self.cache.store(part, _tensors_of(made))
        self._advance(after - self.done)
        return made

    def _read(self, name: str) -> Tensor:
        """A tensor as the checkpoint has it, whole and finite."""
        tensor = self.source.read(name, arrived=self._advance)
        if not _finite(tensor):
            raise CorruptCheckpoint(f"{self.source.tensors[name].file}: tensor {name!r} holds NaN or infinity")
        return tensor

    def _advance(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)


def _tensors_of(part: BlockWeights | EndsWeights) -> dict[str, Tensor]:
    """A part as named tensors, for the cache: ``"qkv.weight"``, ``"qkv.scale"``, ``"norm1"``, …"""
    tensors: dict[str, Tensor] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value
        elif isinstance(value, Linear):
            tensors |= {f"{field.name}.weight": value.weight, f"{field.name}.scale": value.scale}
            if value.bias is not None:
                tensors[f"{field.name}.bias"] = value.bias
    return tensors


def _block_of(tensors: Mapping[str, Tensor], config: ModelConfig) -> BlockWeights:
    return BlockWeights(
        norm1=tensors["norm1"],
        qkv=_linear_of(tensors, "qkv", config.hidden_size),
        o=_linear_of(tensors, "o", config.q_size),
        norm2=tensors["norm2"],
        gate_up=_linear_of(tensors, "gate_up", config.hidden_size),
        down=_linear_of(tensors, "down", config.intermediate_size),
        q_norm=tensors.get("q_norm"),
        k_norm=tensors.get("k_norm"),
    )


def _ends_of(tensors: Mapping[str, Tensor], config: ModelConfig) -> EndsWeights:
    def linear(name: str) -> Linear | None:
        return _linear_of(tensors, name, config.hidden_size) if f"{name}.weight" in tensors else None

    return EndsWeights(linear("embedding"), tensors.get("norm"), linear("head"))


def _linear_of(tensors: Mapping[str, Tensor], name: str, in_features: int) -> Linear:
    return Linear(tensors[f"{name}.weight"], tensors[f"{name}.scale"], tensors.get(f"{name}.bias"), in_features)


def _finite(tensor: Tensor) -> bool:
    """No NaN, no infinity: no exponent of all ones. Looks at the bits, a slice at a time, and makes no copy of the
    whole.
    """
    bits = tensor.reshape(-1).view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)
    ones = {torch.float32: 0x7F800000, torch.bfloat16: 0x7F80, torch.float16: 0x7C00}[tensor.dtype]
    return all(bool(((part & ones) != ones).all()) for part in bits.split(_SLICE))
