"""n and best_of: how many answers to one prompt are generated, with which seeds, and which of them are returned. Pure.

As in OpenAI's completions, of ``best_of`` candidates the ``n`` "with the highest log probability per token" come back:
the mean, not the sum, which would prefer the shortest. It is the mean of the model's own logprobs, before penalties,
temperature and filters, over all tokens that were drawn, the one that ended the answer included.

Where nothing has to be chosen (``best_of`` is ``n``) answers come back in the order of their seeds. Candidate 0 has the
request's own seed, so asking for more does not change the first answer; the others' follow from it and their number,
so a request with a seed repeats in all its answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.errors import UsageError

MAX_CHOICES = 128
SEED_BITS = 53  # of a seed that is drawn here: what every JSON reader can hold; the caller's own may have more


@dataclass(frozen=True, slots=True)
class Choices:
    """``best_of`` None: as many as are returned. Checked when built."""

    n: int = 1
    best_of: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_CHOICES:
            raise UsageError(f"n must lie in 1..{MAX_CHOICES}, not {self.n}")
        if self.best_of is not None and not self.n <= self.best_of <= MAX_CHOICES:
            raise UsageError(f"best_of must lie in {self.n}..{MAX_CHOICES} (n is {self.n}), not {self.best_of}")

    @property
    def candidates(self) -> int:
        """How many are generated."""
        return self.n if self.best_of is None else self.best_of

    @property
    def ranked(self) -> bool:
        """Whether candidates are compared, for which their logprobs are needed."""
        return self.candidates > self.n

    def seeds(self, seed: int) -> tuple[int, ...]:
        """One for each candidate."""
        return tuple(seed if index == 0 else _derived(seed, index) for index in range(self.candidates))

    def chosen(self, logprobs: Sequence[Sequence[float]]) -> tuple[int, ...]:
        """Which candidates are returned, best first; ``logprobs`` of each one's tokens. Of equals the first."""
        assert len(logprobs) == self.candidates, f"{len(logprobs)} of {self.candidates} candidates"
        order = list(range(self.candidates))
        if self.ranked:
            order.sort(key=lambda index: -mean_logprob(logprobs[index]))
        return tuple(order[: self.n])


def mean_logprob(logprobs: Sequence[float]) -> float:
    """What an answer is ranked by; one without tokens comes last."""
    return sum(logprobs) / len(logprobs) if logprobs else float("-inf")


def _derived(seed: int, index: int) -> int:
    digest = hashlib.sha256(b"shoal choice" + seed.to_bytes(8, "little") + index.to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:8], "little") >> (64 - SEED_BITS)
