"""DraftModel: a small model that guesses what a large one will say; a ``swarm.draft.Source``, as prompt lookup is one.

It computes every Block of its checkpoint here, in profile c8, with Pages of its own for one sequence. Its guesses are
its greedy answer, and since c8's bits do not depend on how rows come, they are a function of the history alone.

The KV follows lazily. What was computed is kept with the tokens that it was computed for; ``propose`` computes from the
first position on where these and the history part. So a guess that was accepted is already there, one that was not is
written over, a rollback costs nothing, and a conversation's next turn finds the last one's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kernels.types import PAGE_SIZE, SeatRows
from model.config_cache import known_config
from model.source import open_source
from model.span_model import SpanModel
from swarm.errors import UsageError

CHUNK = 256  # rows that are computed together
MAX_TOKENS = 32768  # longer histories are not guessed at; memory is only touched where there is KV


class DraftModel:
    """Not safe to call from two threads at once; ``propose`` and ``prepare`` compute, the other methods only note."""

    def __init__(self, model: SpanModel):
        self._model = model
        self._pages = tuple(range(model.kv.num_pages))
        self._tokens: list[int] = []  # the history
        self._held: list[int] = []  # what the KV was computed for …
        self._agreed = 0  # … of which so many are the history's

    @classmethod
    def load(
        cls,
        checkpoint: str,
        vocab_size: int,
        *,
        max_tokens: int = MAX_TOKENS,
        cache_dir: Path | None = None,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> DraftModel:
        """``checkpoint``: a directory or a Hub id; ``vocab_size``: of the model that is guessed at. Raises UsageError
        where both do not have the same number of token ids, before any weights are read; ModelError.
        """
        source = open_source(checkpoint, None, cache_dir)
        config = known_config(source.directory, source.name, cache_dir)
        if config.vocab_size != vocab_size:
            raise UsageError(
                f"the draft model {source.name} has {config.vocab_size} token ids, the model it is to guess at has "
                f"{vocab_size}; a draft model must have the same tokenizer"
            )
        num_pages = -(-min(config.max_positions, max_tokens) // PAGE_SIZE)
        model = SpanModel.load(source, config, config.span, "c8", num_pages, cache_dir, progress, threads)
        return cls(model)

    @property
    def capacity(self) -> int:
        """Positions that can be computed."""
        return min(len(self._pages) * PAGE_SIZE, self._model.config.max_positions)

    def __len__(self) -> int:
        return len(self._tokens)

    def append(self, token_ids: Sequence[int]) -> None:
        self._tokens += token_ids
        while self._agreed < min(len(self._tokens), len(self._held)):
            if self._tokens[self._agreed] != self._held[self._agreed]:
                break
            self._agreed += 1

    def rollback(self, length: int) -> None:
        """Forget what lies behind the first ``length`` tokens."""
        assert 0 <= length <= len(self._tokens), f"cannot go back to {length} of {len(self._tokens)} tokens"
        del self._tokens[length:]
        self._agreed = min(self._agreed, length)

    def prepare(self) -> None:
        """Compute what the next ``propose`` will need, but for the last token: a long prompt takes its time."""
        if 1 < len(self._tokens) <= self.capacity:
            self._catch_up(len(self._tokens) - 1)

    def propose(self, count: int) -> tuple[int, ...]:
        """The next ``count`` tokens, were they this model's to say; fewer where its positions end."""
        count = min(count, self.capacity - len(self._tokens) + 1)
        if not self._tokens or count <= 0:
            return ()
        self._agreed = min(self._agreed, len(self._tokens) - 1)  # the last row's output is needed again
        x, guesses = self._catch_up(len(self._tokens)), list[int]()
        while len(guesses) < count:
            if guesses:
                x = self._compute(guesses[-1:])
            logits = self._model.logits(x[-1:])
            if not bool(torch.isfinite(logits).all()):
                break
            guesses.append(int(self._model.top_k(logits, 1)[1]))
        return tuple(guesses)

    def _catch_up(self, end: int) -> Tensor:
        """Compute the history up to ``end`` from where the KV does not hold it; the last Chunk's output, if any."""
        x = torch.empty(0, self._model.hidden_size)
        del self._held[self._agreed :]
        while self._agreed < end:
            x = self._compute(self._tokens[self._agreed : min(end, self._agreed + CHUNK)])
            self._agreed = len(self._held)
        return x

    def _compute(self, token_ids: Sequence[int]) -> Tensor:
        """Rows [tokens, hidden] of what follows ``_held``, which then holds it too."""
        rows = SeatRows(self._pages, len(self._held), len(token_ids))
        x = self._model.run(self._model.span, self._model.embed(token_ids), [rows])
        self._held += token_ids
        return x
