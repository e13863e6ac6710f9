"""A local draft model (``--draft-model DIR``) for the Sessions of one client. Thin: the model is ``model.drafting``'s,
and so is torch, which is imported when one is loaded.

There is one model with one sequence of KV. The Session that comes first has it for as long as it lasts; those that run
meanwhile draft by prompt lookup. Both are a ``swarm.draft.Drafter``, so a Session does not know which it has.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from client.ends import default_ends_dir
from swarm.draft import Drafter

if TYPE_CHECKING:
    from model.drafting import DraftModel


class _Loan:
    """The model in the hands of one Drafter. Where it is over, what a thread of that Session still does is for nothing,
    and does not disturb the next one.
    """

    def __init__(self, model: DraftModel, computing: threading.Lock):
        self._model, self._computing = model, computing
        self.over = False

    def append(self, token_ids: Sequence[int]) -> None:
        with self._computing:
            if not self.over:
                self._model.append(token_ids)

    def rollback(self, length: int) -> None:
        with self._computing:
            if not self.over:
                self._model.rollback(length)

    def propose(self, count: int) -> tuple[int, ...]:
        with self._computing:
            return () if self.over else self._model.propose(count)

    def prepare(self) -> None:
        with self._computing:
            if not self.over:
                self._model.prepare()


class LocalDrafts:
    """Its methods may be called from any thread. A Drafter with the model computes in ``propose``, a few milliseconds
    for each guess: call that off the event loop where ``computes`` says so.
    """

    def __init__(self, model: DraftModel):
        self._model = model
        self._computing, self._lending = threading.Lock(), threading.Lock()
        self._lent: tuple[Drafter, _Loan] | None = None

    @classmethod
    def load(
        cls, checkpoint: str, vocab_size: int, *, cache_dir: Path | None = None, threads: int | None = None
    ) -> LocalDrafts:
        """Takes seconds. ``vocab_size`` is the swarm's model's. ``cache_dir``: where peers on this machine keep
        quantised weights, by default. Raises UsageError where the vocabularies differ, ModelError.
        """
        from model.drafting import DraftModel

        return cls(DraftModel.load(checkpoint, vocab_size, cache_dir=cache_dir or default_ends_dir(), threads=threads))

    def take(self, history: Sequence[int], max_tokens: int) -> Drafter:
        """A Drafter for one Session, to be given back. Computes ``history``, which takes as long as a prompt does:
        call it off the event loop, while the swarm has the prompt too.
        """
        with self._lending:
            if self._lent is not None:
                return Drafter(history, max_tokens)
            loan = _Loan(self._model, self._computing)
            loan.rollback(0)  # waits for what the last Session still computes
            drafter = Drafter(history, max_tokens, loan)
            self._lent = drafter, loan
        try:
            loan.prepare()
        except BaseException:
            self.give_back(drafter)
            raise
        return drafter

    def computes(self, drafter: Drafter) -> bool:
        """Whether this one has the model."""
        lent = self._lent
        return lent is not None and lent[0] is drafter

    def give_back(self, drafter: Drafter) -> None:
        """The Session is over. Nothing happens for one that had no model. Does not wait for what it still computes."""
        lent = self._lent
        if lent is not None and lent[0] is drafter:
            lent[1].over, self._lent = True, None
