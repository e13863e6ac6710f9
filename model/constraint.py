"""Constraint: which tokens a grammar allows after the tokens of an answer so far.

    mask(stream, grammar, answer) → bool [vocab]

The mask is a function of grammar and answer alone. What is kept between two questions of one stream (a Seat's id, for
one) only saves work: where the answer is not the one of the last time with more behind it (a step that is computed
again, a repair, a fork), the state is made anew from its first token on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.grammar import apart, check, compiled
from swarm.errors import BadGrammar
from swarm.sampling import Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_STREAMS = 64

Masks = Callable[[Grammar, Sequence[int]], Tensor]
"""The grammar and the answer so far -> bool [vocab], with at least one token allowed. Raises BadGrammar."""


class _State:
    __slots__ = ("grammar", "matcher", "taken")

    def __init__(self, grammar: Grammar, matcher: LLMatcher):
        self.grammar, self.matcher = grammar, matcher
        self.taken: list[int] = []

    def follow(self, answer: Sequence[int]) -> None:
        """Be where ``answer`` ends. Raises BadGrammar where the grammar does not lead there."""
        known = len(self.taken)
        if list(answer[:known]) != self.taken:
            self.matcher.reset()
            self.taken, known = [], 0
        new = list(answer[known:])
        for token_id in new:
            if self.matcher.is_stopped():  # it has ended; what follows are more end tokens
                break
            if not self.matcher.consume_token(token_id):
                check(self.matcher)
                raise BadGrammar(f"grammar: token {token_id} does not follow what the answer has so far")
        self.taken += new


class Constraints:
    """Those of one model. ``tokenizer`` gives what ``model.grammar.read_tokenizer`` read, when it is there, or raises
    ModelError. Any thread may ask.
    """

    def __init__(self, tokenizer: Callable[[], LLTokenizer], vocab_size: int, max_streams: int = MAX_STREAMS):
        self._tokenizer, self._vocab_size, self._max_streams = tokenizer, vocab_size, max_streams
        self._states: OrderedDict[Hashable, _State] = OrderedDict()  # the one used last is last
        self._lock = threading.Lock()

    def prepare(self, stream: Hashable, grammar: Grammar) -> None:
        """Compile for ``stream``, so that its first mask does not wait for that. To be called by
        ``model.grammar.apart``. Raises BadGrammar, ModelError.
        """
        self._keep(stream, _State(grammar, compiled(grammar, self._tokenizer())))

    def masks(self, stream: Hashable) -> Masks:
        """What the sampler is given."""
        return lambda grammar, answer: self.mask(stream, grammar, answer)

    def mask(self, stream: Hashable, grammar: Grammar, answer: Sequence[int]) -> Tensor:
        """Raises BadGrammar."""
        with self._lock:
            state = self._states.pop(stream, None)
        if state is None or state.grammar != grammar:
            state = _State(grammar, apart(compiled, grammar, self._tokenizer()).result())
        state.follow(answer)
        bits = state.matcher.compute_logit_bias()  # a byte for each token: 0, or 200 where it may come
        check(state.matcher)
        self._keep(stream, state)  # not where something was raised: an error stays in a matcher
        allowed = torch.frombuffer(bytearray(bits), dtype=torch.uint8)[: self._vocab_size] != 0
        if len(allowed) < self._vocab_size:
            allowed = torch.cat([allowed, torch.zeros(self._vocab_size - len(allowed), dtype=torch.bool)])
        if not bool(allowed.any()):
            raise BadGrammar("grammar: no token of this model can follow what the answer has so far")
        return allowed

    def _keep(self, stream: Hashable, state: _State) -> None:
        with self._lock:
            self._states[stream] = state
            while len(self._states) > self._max_streams:
                self._states.popitem(last=False)
