"""SamplingParams: how the next token is drawn. The value and its limits; the drawing itself is ``model.sampler``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.errors import UsageError

MAX_LOGPROBS = 64
MAX_BIASED = 1024  # tokens
MAX_BIAS = 100.0
MAX_END_IDS = 1024
MAX_GRAMMAR_BYTES = 64 << 10


class GrammarKind(IntEnum):
    """What a Grammar's text is written in. The number travels; never reuse one."""

    JSON_SCHEMA = 1
    LARK = 2  # llguidance's dialect of it


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer has to be, from its first token on. Whether it can be understood is ``model.grammar``'s affair."""

    kind: GrammarKind
    text: str

    def __post_init__(self) -> None:
        size = len(self.text.encode(errors="replace"))
        if not 0 < size <= MAX_GRAMMAR_BYTES:
            raise UsageError(f"a grammar has {size} bytes, expected 1..{MAX_GRAMMAR_BYTES}")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Greedy when ``temperature`` is 0. Order of application: logit_bias, penalties, grammar and min_tokens (which
    forbid tokens), temperature, top_k, top_p, min_p.

    Randomness is a function of (seed, position) alone, so a step that is computed again draws the same token.
    """

    temperature: float = 0.0
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # over prompt and answer, as in transformers
    presence_penalty: float = 0.0  # over the answer, as in OpenAI's API
    frequency_penalty: float = 0.0
    seed: int = 0
    logprobs: int | None = None  # how many alternatives to report; None: no logprobs at all
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, what is added to its logit), each id once
    min_tokens: int = 0  # of the answer, before any of …
    end_token_ids: tuple[int, ...] = ()  # … these may be drawn
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 0.0, 100.0)
        _within("top_k", self.top_k, 0, 1 << 20)
        _within("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _within("min_p", self.min_p, 0.0, 1.0)
        _within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _within("seed", self.seed, 0, 2**64 - 1)
        if self.logprobs is not None:
            _within("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        _within("logit_bias's number of tokens", len(self.logit_bias), 0, MAX_BIASED)
        for _, bias in self.logit_bias:
            _within("logit_bias", bias, -MAX_BIAS, MAX_BIAS)
        if len({token_id for token_id, _ in self.logit_bias}) < len(self.logit_bias):
            raise UsageError("logit_bias names a token twice")
        _within("min_tokens", self.min_tokens, 0, 1 << 20)
        _within("end_token_ids' number", len(self.end_token_ids), 0, MAX_END_IDS)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def penalises(self) -> bool:
        """Whether tokens are less likely for having been there before."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def needs_history(self) -> bool:
        """Whether drawing depends on the tokens so far."""
        return self.penalises or self.grammar is not None


def _within(name: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    if not low <= value <= high or (open_low and value == low):  # NaN is never within
        bracket = "(" if open_low else "["
        raise UsageError(f"{name} must lie in {bracket}{low}, {high}], not {value}")
