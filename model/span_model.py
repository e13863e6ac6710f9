"""A Span in memory, ready to compute: its Blocks, the Ends that touch it, their KV. Knows no Seats, no network and no
sampling.

Whoever calls decides which rows go together; in profile c8 that never changes a row's bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kernels import REFERENCE, Kernels, select
from kernels.types import BatchRows, SeatRows
from model.block import Block
from model.config import ModelConfig
from model.ends import Embedding, Head
from model.kv import KVCache, kv_bytes_per_token
from model.parameters import Part, SpanWeights, in_layout, on_device
from model.rope import RopeTable
from model.source import Source
from model.weights import load_span
from swarm.errors import WrongModel
from swarm.profile import Profile
from swarm.span import Span


class SpanModel:
    """Takes and returns tensors on the host, wherever it computes. Not safe to call from two threads at once: the KV
    is written in place.
    """

    def __init__(
        self,
        config: ModelConfig,
        span: Span,
        weights: SpanWeights,
        profile: Profile,
        num_pages: int,
        kernels: Kernels | None = None,
    ):
        """``kernels`` computes profile c8; None: what ``kernels.select`` chooses. Profile f32 is torch's alone."""
        assert len(weights.blocks) == len(span), f"{len(weights.blocks)} Blocks' weights for span {span}"
        chosen = kernels or select(None if profile == "c8" else REFERENCE)
        self.config, self.span = config, span
        self.profile: Profile = profile
        self.arithmetic = chosen.name if profile == "c8" else "torch"
        self.top_k = chosen.top_k  # what the sampler looks for in logits
        self._device = chosen.device
        self.kv = KVCache(config, span, num_pages, profile, self._device)
        self._rope = RopeTable(config)

        def placed(part: Part) -> Part:
            return on_device(in_layout(part, chosen.layout), self._device)

        self._blocks = {
            index: Block(config, index, placed(block), profile, chosen)
            for index, block in zip(span, weights.blocks, strict=True)
        }
        ends = placed(weights.ends)
        self._embedding = Embedding(ends.embedding, chosen) if ends.embedding is not None else None
        self._head = None
        if ends.norm is not None and ends.head is not None:
            self._head = Head(ends.norm, ends.head, config.rms_eps, chosen)

    @classmethod
    def load(
        cls,
        source: Source,
        config: ModelConfig,
        span: Span,
        profile: Profile,
        num_pages: int,
        cache_dir: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
        threads: int | None = None,
        kernels: Kernels | None = None,
    ) -> SpanModel:
        """Read the Span's tensors (or the cache's) and make a model of them, which computes with ``threads`` threads
        (None: one a core). Raises ModelError, UsageError.
        """
        if profile == "c8" and kernels is None:
            kernels = select(threads=threads)
        layout = "rows" if kernels is None else kernels.layout
        weights = load_span(source, config, span, profile, cache_dir, progress, layout, threads or 1)
        return cls(config, span, weights, profile, num_pages, kernels)

    @torch.inference_mode()
    def run(self, span: Span, x: Tensor, seats: Sequence[SeatRows], bf16_wire: Sequence[bool] | None = None) -> Tensor:
        """Rows [rows, hidden] f32 of ``seats``, one after the other, through the Blocks of ``span``, a part of this
        model's.

        Where ``bf16_wire`` says so, a Seat's rows are rounded to bf16 on entry and at every Block's output, so that it
        does not matter at which Blocks a Route cuts. Writes KV. A row that comes with NaN or infinity, or meets it,
        ends with it; other Seats' rows know nothing of it, so the caller checks each Seat's rows of the result.
        """
        if not self.span.covers(span):
            raise WrongModel(f"blocks {span} are not all of {self.span}")
        rows = BatchRows.of(seats)
        assert x.shape == (rows.count, self.config.hidden_size), f"{tuple(x.shape)} hidden states for {rows.count} rows"
        cos, sin = (table.to(self._device) for table in self._rope.rows(rows.positions))
        coarse = _coarse_rows(seats, bf16_wire or ())
        coarse = None if coarse is None else coarse.to(self._device)
        x = _round(x.to(self._device), coarse)
        for index in span:
            x = self._blocks[index].forward(x, rows, cos, sin, self.kv.k(index), self.kv.v(index))
            x = _round(x, coarse)
        return x.cpu()

    @torch.inference_mode()
    def embed(self, token_ids: Sequence[int]) -> Tensor:
        """[len(token_ids), hidden] f32. Raises WrongModel where the Span does not begin at Block 0."""
        if self._embedding is None:
            raise WrongModel(f"span {self.span} does not hold the embedding; send hidden states")
        return self._embedding.rows(token_ids).cpu()

    @torch.inference_mode()
    def logits(self, x: Tensor) -> Tensor:
        """[rows, hidden] f32 -> [rows, vocab] f32. Raises WrongModel where the Span does not reach the last Block."""
        if self._head is None:
            raise WrongModel(f"span {self.span} does not hold the head; ask for hidden states")
        return self._head.logits(x.to(self._device)).cpu()

    @property
    def hidden_size(self) -> int:
        return self.config.hidden_size

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def kv_bytes_per_token(self) -> int:
        return kv_bytes_per_token(self.config, self.span, self.profile)


def _coarse_rows(seats: Sequence[SeatRows], bf16_wire: Sequence[bool]) -> Tensor | None:
    """bool [rows, 1]: the rows to round; None for none of them."""
    if not any(bf16_wire):
        return None
    counts = torch.tensor([seat.count for seat in seats])
    return torch.tensor(list(bf16_wire)).repeat_interleave(counts).unsqueeze(1)


def _round(x: Tensor, coarse: Tensor | None) -> Tensor:
    return x if coarse is None else torch.where(coarse, x.bfloat16().float(), x)
