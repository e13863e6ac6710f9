"""The Ends: what turns token ids into the first hidden states, and the last hidden states into logits. Sampling is
``sampler``'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import Kernels
from model.block import float_linear, float_norm
from model.parameters import AnyLinear, FloatLinear
from swarm.errors import BadRequest


class Embedding:
    def __init__(self, table: AnyLinear, kernels: Kernels):
        self._table, self._kernels = table, kernels

    def rows(self, token_ids: Sequence[int]) -> Tensor:
        """[len(token_ids), hidden] f32. Raises BadRequest for an id outside the vocabulary."""
        size = self._table.out_features
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < size:
            strange = next(token_id for token_id in token_ids if not 0 <= token_id < size)
            raise BadRequest(f"token id {strange} is outside the vocabulary of {size}")
        index = torch.tensor(token_ids, dtype=torch.int64)
        if isinstance(self._table, FloatLinear):
            return self._table.weight[index]
        return self._kernels.embedding_rows(self._table, index)


class Head:
    """Final norm and LM head."""

    def __init__(self, norm: Tensor, matrix: AnyLinear, eps: float, kernels: Kernels):
        self._norm, self._matrix, self._eps, self._kernels = norm, matrix, eps, kernels

    def logits(self, x: Tensor) -> Tensor:
        """[rows, hidden] f32 -> [rows, vocab] f32."""
        if isinstance(self._matrix, FloatLinear):
            return float_linear(float_norm(x, self._norm, self._eps), self._matrix)
        quantized = self._kernels.norm_quantize(x, self._norm, self._eps, self._matrix.group)
        return self._kernels.linear(quantized, self._matrix)
