"""From a checkpoint to the operands of one Span, tensor by tensor: from the cache where it has them, otherwise read,
quantised and packed.

Nothing but the Span's own tensors is read: those of its Blocks, the embedding where it starts at Block 0, final norm
and Head where it ends with the last. A client that keeps the Ends reads these alone (``load_ends``). Besides the
result, no more than the tensor at hand is in memory, first as the checkpoint has it, then, where the arithmetic wants
panels, in its other form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from kernels import Layout
from kernels.panels import Panels
from kernels.types import Linear
from model.cache import Cache
from model.config import ModelConfig
from model.fingerprint import fingerprint
from model.layout import EMBEDDING, FINAL_NORM, block_prefix, block_tensors, check_tensors, head_tensor
from model.parameters import BlockWeights, EndsWeights, Part, SpanWeights, in_layout
from model.quantize import float_block, float_ends, quantize_block, quantize_ends
from model.source import Source
from swarm.errors import CorruptCheckpoint, UsageError
from swarm.profile import PROFILES, Profile
from swarm.span import Span

Progress = Callable[[int, int], None]
"""Hears (bytes done, bytes in all) of the Span's checkpoint bytes."""

EMBEDDING_PART = "embedding"  # a Session reads a row of it a token
_SLICE = 1 << 20  # numbers looked at together


def load_span(
    source: Source,
    config: ModelConfig,
    span: Span,
    profile: Profile = "c8",
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
    layout: Layout = "rows",
    threads: int = 1,
) -> SpanWeights:
    """The weights of ``span`` and of the Ends that touch it, in profile c8 as ``layout`` has them. Profile c8 is cached
    under ``cache_dir``, None for nowhere; files of the cache are checked by ``threads`` threads.

    Raises UsageError for a Span that the model does not have, CorruptCheckpoint for tensors that are missing, of the
    wrong shape, hold NaN or change meanwhile, UnsupportedModel for dtypes other than bf16, f16 and f32, ModelError when
    the Hub fails.
    """
    if not config.span.covers(span):
        raise UsageError(f"{config.name} has Blocks {config.span}, it cannot serve {span}; give a range within")
    return _load(source, config, span, profile, cache_dir, progress, layout, threads)


def load_ends(
    source: Source,
    config: ModelConfig,
    profile: Profile = "c8",
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
    layout: Layout = "rows",
    threads: int = 1,
) -> EndsWeights:
    """Both Ends and no Block, otherwise like ``load_span``: the same bits, and the same files of the cache."""
    return _load(source, config, None, profile, cache_dir, progress, layout, threads).ends


def _load(
    source: Source,
    config: ModelConfig,
    span: Span | None,  # None: both Ends and no Block
    profile: Profile,
    cache_dir: str | Path | None,
    progress: Progress | None,
    layout: Layout,
    threads: int,
) -> SpanWeights:
    if profile not in PROFILES:
        raise UsageError(f"there is no profile {profile!r}; choose one of {', '.join(PROFILES)}")
    check_tensors(source, config)
    cache = None
    if cache_dir is not None and profile == "c8":
        cache = Cache(Path(cache_dir), fingerprint(source, config), source.identity, layout)
    with ThreadPoolExecutor(threads, thread_name_prefix="shoal-cache") as pool:
        try:
            return _Loader(source, config, span, profile, layout, cache, pool, progress).load()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def span_tensors(config: ModelConfig, span: Span | None) -> list[str]:
    """The names of all tensors that a Peer of ``span`` reads; None: those of both Ends."""
    names = [name for block in span or () for name in block_tensors(config, block)]
    first, last = _ends_at(config, span)
    ends = [EMBEDDING] * first + [FINAL_NORM, head_tensor(config)] * last
    return [*dict.fromkeys(ends), *names]


def _ends_at(config: ModelConfig, span: Span | None) -> tuple[bool, bool]:
    """Whether the embedding is wanted, and whether norm and Head are."""
    return span is None or span.start == 0, span is None or span.end == config.num_blocks


class _Loader:
    """One ``_load``: what it works with, and how far it is."""

    def __init__(
        self,
        source: Source,
        config: ModelConfig,
        span: Span | None,
        profile: Profile,
        layout: Layout,  # of INT8 matrices; profile f32 has none
        cache: Cache | None,
        pool: ThreadPoolExecutor,
        progress: Progress | None,
    ):
        self.source, self.config, self.profile = source, config, profile
        self.blocks: tuple[int, ...] = tuple(span or ())
        self.first, self.last = _ends_at(config, span)
        self.layout: Layout = layout
        self.cache, self.progress = cache, progress
        self.cached: dict[str, Future[Mapping[str, Tensor] | None]] = {}  # under way, ahead of their turn
        if cache is not None:
            self.cached = {part: pool.submit(cache.load, part, part == EMBEDDING_PART) for part in self._parts()}
        self.total = sum(source.tensors[name].nbytes for name in span_tensors(config, span))
        self.done = 0

    def load(self) -> SpanWeights:
        self._advance(0)
        ends = self._ends()  # the largest tensors first, while nothing else is in memory
        return SpanWeights(tuple(self._block(block) for block in self.blocks), ends)

    def _parts(self) -> list[str]:
        """The names of all cached units, in the order in which they are wanted."""
        ends = ["head"] * self.last + [EMBEDDING_PART] * (self.first and not (self.config.tied and self.last))
        return [*ends, *map(_block_name, self.blocks)]

    def _block(self, block: int) -> BlockWeights:
        prefix = block_prefix(block)
        make = quantize_block if self.profile == "c8" else float_block
        return self._part(
            _block_name(block),
            list(block_tensors(self.config, block)),
            lambda: make(lambda name: self._read(prefix + name), self.config),
            lambda tensors: _block_of(tensors, self.config),
        )

    def _ends(self) -> EndsWeights:
        make = quantize_ends if self.profile == "c8" else float_ends

        def part(name: str, names: list[str], *, head: bool) -> EndsWeights:
            return self._part(
                name,
                names,
                lambda: make(self._read, self.config, embedding=not head, head=head),
                lambda tensors: _ends_of(tensors, self.config),
            )

        head = part("head", [FINAL_NORM, head_tensor(self.config)], head=True) if self.last else EndsWeights()
        if not self.first:
            return head
        shared = self.config.tied and self.last
        embedding = head.head if shared else part(EMBEDDING_PART, [EMBEDDING], head=False).embedding
        return EndsWeights(embedding, head.norm, head.head)

    def _part(
        self, part: str, names: list[str], make: Callable[[], Part], restore: Callable[[Mapping[str, Tensor]], Part]
    ) -> Part:
        """One cached unit: a Block or an End."""
        after = self.done + sum(self.source.tensors[name].nbytes for name in names)
        cached = self.cached.pop(part).result() if part in self.cached else None
        if cached is not None:
            made = restore(cached)
        else:
            made = in_layout(make(), self.layout)
            self.source.check_unchanged(names)  # or it is of two checkpoints, and none that the cache could name
            if self.cache is not None and self.cache.store(part, _tensors_of(made)):
                del made  # read back, so that a first start has the memory that later ones have; never both at once
                kept = self.cache.load(part, part == EMBEDDING_PART)
                made = in_layout(make(), self.layout) if kept is None else restore(kept)
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


def _block_name(block: int) -> str:
    return f"block-{block:04d}"


def _tensors_of(part: BlockWeights | EndsWeights) -> dict[str, Tensor]:
    """A part as named tensors, for the cache: ``"norm1"``, ``"qkv.panels"`` (or ``"qkv.weight"``, ``"qkv.scale"``) …"""
    tensors: dict[str, Tensor] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value
        elif isinstance(value, Linear | Panels):
            named = (
                {"weight": value.weight, "scale": value.scale} if isinstance(value, Linear) else {"panels": value.data}
            )
            if value.bias is not None:
                named["bias"] = value.bias
            tensors |= {f"{field.name}.{name}": tensor for name, tensor in named.items()}
    return tensors


def _block_of(tensors: Mapping[str, Tensor], config: ModelConfig) -> BlockWeights:
    hidden, inner = config.hidden_size, config.intermediate_size
    return BlockWeights(
        norm1=tensors["norm1"],
        qkv=_linear_of(tensors, "qkv", config.q_size + 2 * config.kv_size, hidden),
        o=_linear_of(tensors, "o", hidden, config.q_size),
        norm2=tensors["norm2"],
        gate_up=_linear_of(tensors, "gate_up", 2 * inner, hidden),
        down=_linear_of(tensors, "down", hidden, inner),
        q_norm=tensors.get("q_norm"),
        k_norm=tensors.get("k_norm"),
    )


def _ends_of(tensors: Mapping[str, Tensor], config: ModelConfig) -> EndsWeights:
    def linear(name: str) -> Linear | Panels | None:
        there = f"{name}.weight" in tensors or f"{name}.panels" in tensors
        return _linear_of(tensors, name, config.vocab_size, config.hidden_size) if there else None

    return EndsWeights(linear("embedding"), tensors.get("norm"), linear("head"))


def _linear_of(tensors: Mapping[str, Tensor], name: str, out_features: int, in_features: int) -> Linear | Panels:
    bias, panels = tensors.get(f"{name}.bias"), tensors.get(f"{name}.panels")
    if panels is not None:
        return Panels(panels, bias, out_features, in_features)
    return Linear(tensors[f"{name}.weight"], tensors[f"{name}.scale"], bias, in_features)


def _finite(tensor: Tensor) -> bool:
    """No NaN, no infinity: no exponent of all ones. Looks at the bits, a slice at a time, and makes no copy of the
    whole.
    """
    bits = tensor.reshape(-1).view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)
    ones = {torch.float32: 0x7F800000, torch.bfloat16: 0x7F80, torch.float16: 0x7C00}[tensor.dtype]
    return all(bool(((part & ones) != ones).all()) for part in bits.split(_SLICE))
