"""SamplingParams: how the next token is drawn. The value and its limits; the drawing itself is ``model.sampler``."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import UsageError

MAX_LOGPROBS = 64


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Greedy when ``temperature`` is 0. Order of application: penalties, temperature, top_k, top_p, min_p.

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

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def needs_history(self) -> bool:
        """Whether drawing depends on the tokens so far."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


def _within(name: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    if not low <= value <= high or (open_low and value == low):  # NaN is never within
        bracket = "(" if open_low else "["
        raise UsageError(f"{name} must lie in {bracket}{low}, {high}], not {value}")
