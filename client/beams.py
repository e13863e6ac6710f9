"""Beam search: which of several continuations go on, which are finished, and which of those are the best. Pure: it is
given logprobs and returns moves; the Session forks and closes Seats accordingly.

The rules are those of transformers' ``generate(num_beams=…, do_sample=False)``, version 5, so that a model in profile
f32 gives the same sequences:

- Of all live beams' continuations the ``width`` most likely are candidates, by the sum of logprobs. There are so many
  of them that ``num_beams`` go on even if every beam could also end with every stop id.
- A candidate that ends (by a stop id, or because it has ``max_new_tokens``) is finished, but only if it is among the
  first ``num_beams``. Its score is ``sum of logprobs / tokens^length_penalty``, the ending token counted. The
  ``num_beams`` best finished ones are kept.
- The ``num_beams`` best candidates that do not end are the next live beams.
- It is over when all candidates are at ``max_new_tokens``, or when ``num_beams`` are finished and, by
  ``early_stopping``: True: that is enough; False: the best live beam's score, were it finished now, is not above the
  worst finished one's; "never": nor would it be at ``max_new_tokens``, where the penalty favours length.

Sums are Python floats where transformers adds in FP32, so sequences whose scores agree within rounding may change
places. Equal sums go in order of beam and of rank within it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from swarm.errors import UsageError
from swarm.sampling import MAX_LOGPROBS

EarlyStopping = bool | Literal["never"]
Candidate = tuple[int, float]  # token id, logprob


@dataclass(frozen=True, slots=True)
class BeamParams:
    """``num_return_sequences`` of the finished ones are wanted. Checked when built."""

    num_beams: int
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise UsageError(f"num_beams must be at least 1, not {self.num_beams}")
        if not 1 <= self.num_return_sequences <= self.num_beams:
            raise UsageError(
                f"num_return_sequences must lie in 1..{self.num_beams} (num_beams), not {self.num_return_sequences}"
            )
        if not math.isfinite(self.length_penalty) or abs(self.length_penalty) > 100:
            raise UsageError(f"length_penalty must lie in [-100, 100], not {self.length_penalty}")
        if self.early_stopping not in (True, False, "never"):
            raise UsageError(f'early_stopping must be True, False or "never", not {self.early_stopping!r:.60}')


@dataclass(frozen=True, slots=True)
class Beam:
    """``token_ids`` of the answer; ``logprob`` is their sum."""

    token_ids: tuple[int, ...]
    logprob: float


@dataclass(frozen=True, slots=True)
class Finished:
    token_ids: tuple[int, ...]  # the stop id included
    logprob: float
    score: float


@dataclass(frozen=True, slots=True)
class Branch:
    """The next live beam: the one at place ``parent`` of the ones before, with ``token_id`` appended."""

    parent: int
    token_id: int


class BeamSearch:
    """Call ``step`` with what may follow each of ``live`` until ``over``; then ``ranking`` has the answers.

    ``live`` begins with one empty beam, the prompt; from the first step on there are ``num_beams``.
    """

    def __init__(self, params: BeamParams, max_new_tokens: int, stop_token_ids: Collection[int] = ()):
        """Raises UsageError where a step would need more logprobs than a Token carries."""
        assert max_new_tokens >= 1, f"{max_new_tokens} new tokens"
        self._params, self._max_new_tokens, self._stops = params, max_new_tokens, frozenset(stop_token_ids)
        if self.width > MAX_LOGPROBS:
            raise UsageError(
                f"{params.num_beams} beams with {len(self._stops)} stop ids need the {self.width} most likely tokens "
                f"at every step, and a peer tells {MAX_LOGPROBS}; ask for fewer beams"
            )
        self._finished: list[Finished] = []
        self._over = False
        self.live: tuple[Beam, ...] = (Beam((), 0.0),)

    @property
    def width(self) -> int:
        """How many of the most likely next tokens ``step`` needs of each beam; all, where there are fewer."""
        return max(2, 1 + len(self._stops)) * self._params.num_beams

    @property
    def over(self) -> bool:
        return self._over

    def step(self, following: Sequence[Sequence[Candidate]]) -> tuple[Branch, ...]:
        """Take in the ``width`` most likely next tokens of each live beam, most likely first. Returns where the next
        live beams come from; none once it is over.
        """
        assert not self._over, "the search is over"
        assert len(following) == len(self.live), f"candidates of {len(following)} beams, {len(self.live)} live"
        length = len(self.live[0].token_ids) + 1
        at_the_end = length == self._max_new_tokens
        candidates = self._candidates(following)
        for logprob, branch in candidates[: self._params.num_beams]:
            if at_the_end or branch.token_id in self._stops:
                token_ids = (*self.live[branch.parent].token_ids, branch.token_id)
                self._finished.append(Finished(token_ids, logprob, self._score(logprob, length)))
        self._finished.sort(key=lambda finished: -finished.score)  # of equals the earlier stays before
        del self._finished[self._params.num_beams :]
        going = [each for each in candidates if each[1].token_id not in self._stops][: self._params.num_beams]
        self.live = tuple(
            Beam((*self.live[branch.parent].token_ids, branch.token_id), logprob) for logprob, branch in going
        )
        self._over = at_the_end or not going or self._settled(length)
        return () if self._over else tuple(branch for _, branch in going)

    def ranking(self) -> tuple[Finished, ...]:
        """The ``num_return_sequences`` best of what is finished, best first."""
        return tuple(self._finished[: self._params.num_return_sequences])

    def _candidates(self, following: Sequence[Sequence[Candidate]]) -> list[tuple[float, Branch]]:
        """(sum of logprobs, where from) of the ``width`` best continuations, best first."""
        every = [
            (beam.logprob + logprob, Branch(parent, token_id))
            for parent, (beam, tops) in enumerate(zip(self.live, following, strict=True))
            for token_id, logprob in tops
        ]
        return sorted(every, key=lambda each: -each[0])[: self.width]

    def _settled(self, length: int) -> bool:
        """Whether nothing can become better, or need not. The best live beam comes first."""
        params = self._params
        if len(self._finished) < params.num_beams:
            return False
        if params.early_stopping is True:
            return True
        if params.early_stopping == "never" and params.length_penalty > 0:
            length = self._max_new_tokens
        return self._score(self.live[0].logprob, length) <= self._finished[-1].score

    def _score(self, logprob: float, length: int) -> float:
        return logprob / length**self._params.length_penalty
