"""What a caller asks for, made into SamplingParams and a rule for when to stop. Checked before a swarm is troubled.

Greedy unless a temperature above 0 is given. Only then do the model's own defaults (generation_config.json: top_k,
top_p, min_p, repetition_penalty) fill in what the caller left open; a greedy answer depends on nothing but the
tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, cast

from client.beams import BeamParams, EarlyStopping
from client.choices import SEED_BITS, Choices
from model.grammar import json_grammar
from swarm.errors import BadGrammar, UsageError
from swarm.sampling import Grammar, GrammarKind, SamplingParams

MAX_STOPS = 64
MAX_STOP_LETTERS = 4096


class Options(TypedDict, total=False):
    """The keyword arguments of ``generate``, ``stream`` and ``chat``. ``None`` means: not given."""

    max_new_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    logprobs: int | None
    ignore_eos: bool
    n: int | None
    best_of: int | None
    num_beams: int | None
    length_penalty: float | None
    early_stopping: EarlyStopping | None
    logit_bias: Mapping[int, float] | None  # token id → what is added to its logit, -100..100
    min_tokens: int | None  # of the answer, before it may end
    json_schema: Mapping[str, Any] | None  # that the answer has to fit
    grammar: str | None  # the same in llguidance's Lark


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of one call, checked; ``max_new_tokens`` is None where the caller named none."""

    sampling: SamplingParams
    max_new_tokens: int | None
    stops: tuple[str, ...]
    stop_token_ids: frozenset[int]
    choices: Choices = field(default_factory=Choices)
    beams: BeamParams | None = None

    @property
    def seed(self) -> int:
        return self.sampling.seed


def read_options(
    options: Options, *, eos_token_ids: Sequence[int] = (), defaults: Mapping[str, Any] | None = None
) -> Wish:
    """Raises UsageError that names the option and its range."""
    unknown = set(options) - set(Options.__annotations__)
    if unknown:
        raise UsageError(f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(Options.__annotations__)}")
    temperature = _number(options, "temperature", 0.0)
    sampled = temperature > 0
    given: Mapping[str, Any] = _sensible(defaults) if sampled and defaults is not None else {}
    seed = options.get("seed")
    max_new_tokens = options.get("max_new_tokens")
    if max_new_tokens is not None and _integer("max_new_tokens", max_new_tokens) < 1:
        raise UsageError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    stop_ids = {_integer("stop_token_ids", token_id) for token_id in _several("stop_token_ids", options)}
    ends = stop_ids | set(eos_token_ids)
    if not options.get("ignore_eos"):
        stop_ids = ends
    logprobs = options.get("logprobs")
    min_tokens = _integer("min_tokens", _first(options.get("min_tokens"), 0))
    if max_new_tokens is not None and min_tokens > max_new_tokens:
        raise UsageError(f"min_tokens is {min_tokens}, more than max_new_tokens, {max_new_tokens}")
    sampling = SamplingParams(
        temperature=temperature,
        top_k=_integer("top_k", _first(options.get("top_k"), given.get("top_k"), 0)),
        top_p=_number(options, "top_p", given.get("top_p", 1.0)),
        min_p=_number(options, "min_p", given.get("min_p", 0.0)),
        repetition_penalty=_number(options, "repetition_penalty", given.get("repetition_penalty", 1.0)),
        presence_penalty=_number(options, "presence_penalty", 0.0),
        frequency_penalty=_number(options, "frequency_penalty", 0.0),
        seed=secrets.randbits(SEED_BITS) if seed is None else _integer("seed", seed),
        logprobs=None if logprobs is None else _integer("logprobs", logprobs),
        logit_bias=_logit_bias(options),
        min_tokens=min_tokens,
        end_token_ids=tuple(sorted(ends)) if min_tokens else (),
        grammar=_grammar(options),
    )
    n, best_of = options.get("n"), options.get("best_of")
    choices = Choices(1 if n is None else _integer("n", n), None if best_of is None else _integer("best_of", best_of))
    beams = _beams(options, choices, sampling)
    return Wish(sampling, max_new_tokens, _stops(options), frozenset(stop_ids), choices, beams)


def _beams(options: Options, choices: Choices, sampling: SamplingParams) -> BeamParams | None:
    num_beams, early = options.get("num_beams"), options.get("early_stopping")
    if num_beams is None or _integer("num_beams", num_beams) == 1:
        alone = next((name for name in ("length_penalty", "early_stopping") if options.get(name) is not None), None)
        if alone is not None:
            raise UsageError(f"{alone} is for beam search; give num_beams too")
        return None
    if not sampling.greedy or options.get("best_of") is not None or sampling.penalises:
        raise UsageError("num_beams goes with neither a temperature, nor penalties, nor best_of; leave those out")
    if sampling.logit_bias or sampling.min_tokens or sampling.grammar is not None:
        raise UsageError("num_beams goes with neither logit_bias, nor min_tokens, nor a grammar; leave those out")
    length_penalty = _number(options, "length_penalty", 1.0)
    return BeamParams(num_beams, length_penalty, False if early is None else early, choices.n)


def _logit_bias(options: Options) -> tuple[tuple[int, float], ...]:
    given: Any = options.get("logit_bias")
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise UsageError(f"logit_bias must be a mapping of token ids to numbers, not {sketch(given)}")
    found: dict[int, float] = {}
    for token_id, bias in cast(Mapping[Any, Any], given).items():
        if _integer("logit_bias's token id", token_id) < 0 or token_id >= 1 << 32:
            raise UsageError(f"logit_bias's token id must lie in 0..{(1 << 32) - 1}, not {token_id}")
        found[token_id] = _number(cast(Options, {"logit_bias": bias}), "logit_bias", None)
    return tuple(sorted(found.items()))


def _grammar(options: Options) -> Grammar | None:
    schema: Any = options.get("json_schema")
    grammar: Any = options.get("grammar")
    if schema is not None and grammar is not None:
        raise UsageError("json_schema and grammar are two ways to say one thing; give one of them")
    if schema is not None:
        if not isinstance(schema, Mapping):
            raise UsageError(f"json_schema must be a mapping, not {sketch(schema)}")
        try:
            return json_grammar(dict(cast(Mapping[str, Any], schema)))
        except (BadGrammar, UsageError) as fault:
            raise UsageError(f"json_schema: {fault}") from None
    if grammar is None:
        return None
    if not isinstance(grammar, str):
        raise UsageError(f"grammar must be text, not {sketch(grammar)}")
    return Grammar(GrammarKind.LARK, grammar)


def sketch(value: object) -> str:
    """A value that cannot be meant, for an error's line: short, and whatever it is."""
    try:
        return f"{value!r:.60}"
    except ValueError:  # an integer of more than 4300 digits
        return f"a {type(value).__name__}"


def _several(name: str, options: Options) -> Sequence[Any]:
    values: Any = options.get(name)
    if values is not None and not isinstance(values, list | tuple | set | frozenset):
        raise UsageError(f"{name} must be a list, not {sketch(values)}")
    return tuple(cast(Sequence[Any], values or ()))


def _stops(options: Options) -> tuple[str, ...]:
    stop = options.get("stop")
    stops: Sequence[Any] = (stop,) if isinstance(stop, str) else _several("stop", options)
    if len(stops) > MAX_STOPS:
        raise UsageError(f"at most {MAX_STOPS} stop strings are taken, not {len(stops)}")
    for text in stops:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_STOP_LETTERS:
            raise UsageError(f"a stop must be a string of 1..{MAX_STOP_LETTERS} letters, not {sketch(text)}")
    return tuple(stops)


def _sensible(defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of the model's file can be meant. The rest was nobody's wish and is left out, not complained of."""
    found: dict[str, Any] = {}
    for name in ("top_k", "top_p", "min_p", "repetition_penalty"):
        value = defaults.get(name)
        try:
            read_options(cast(Options, {name: value}))
        except UsageError:
            continue
        if value is not None:
            found[name] = value
    return found


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _number(options: Options, name: str, default: Any) -> float:
    value: Any = _first(options.get(name), default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} must be a number, not {sketch(value)}")
    try:
        return float(value)
    except OverflowError:
        raise UsageError(f"{name} must be a number of a sensible size") from None


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number, not {sketch(value)}")
    if value.bit_length() > 64:
        raise UsageError(f"{name} must be a number of a sensible size")
    return value
