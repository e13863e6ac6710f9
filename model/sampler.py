"""Drawing the next token from logits: the same token on every machine, whenever the step is computed again.

Greedy is the largest logit, the lowest id where several are equal. Otherwise logits pass through bias, penalties,
temperature, top_k, top_p and min_p, in this order, and chance decides: 64 bits of a hash of (seed, position), nothing
else.

A grammar and ``min_tokens`` forbid tokens. Those are left out after the penalties, as if the vocabulary were smaller:
what is left keeps its order, so equal logits are told apart as ever. Where ``min_tokens`` would leave nothing, because
the grammar is at its end, the grammar decides.

**Integers.** Probabilities are not floats here. ``w_i = floor(2^40 * exp(l_i - max))`` with the exponential of profile
c8; sums of such integers are exact in any order, so top_p's threshold and the draw itself are comparisons of integers.
A token whose weight is below 2^-40 of the most likely one's is never drawn. Equal weights are ordered by id. top_k,
top_p and min_p each keep the first so many of that order; top_p counts what top_k left, as transformers does.

**logprobs** are those of the model's own distribution, before penalties, temperature and filters, as vLLM's are by
default. Their one logarithm is ``decimal``'s, so that they too are the same everywhere.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

import torch
from torch import Tensor

from kernels import reference
from kernels.elementary import exp
from model.constraint import Masks
from swarm.errors import BadGrammar, BadNumbers
from swarm.sampling import SamplingParams

TopK = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""``kernels.reference.top_k`` or its twin: [rows, vocab] and k -> values and ids [rows, k]."""

_UNIT_BITS = 40
_LEAST_TEMPERATURE = 2.0**-100
_CONTEXT = Context(prec=30)


@dataclass(frozen=True, slots=True)
class Drawn:
    """``logprob`` and ``top`` only where asked for; ``top`` is (token id, logprob), most likely first."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def draw(
    logits: Tensor,
    params: SamplingParams,
    position: int,
    history: Sequence[int],
    prompt_tokens: int,
    top_k: TopK = reference.top_k,
    masks: Masks | None = None,
) -> Drawn:
    """The token at ``position``. ``logits`` is f32 [vocab]; ``history`` the prompt's and answer's tokens before it,
    where ``params.needs_history``; the first ``prompt_tokens`` are the prompt; ``top_k`` an implementation's; ``masks``
    knows the grammar, where there is one. Raises BadNumbers for NaN or infinity, be it that a penalty made one, and
    BadGrammar.
    """
    if not bool(torch.isfinite(logits).all()):
        raise BadNumbers(f"logits at position {position} are not finite")
    adjusted = logits
    if params.logit_bias:
        adjusted = _biased(logits, params)
    if params.penalises:
        adjusted = _penalised(adjusted, params, history, prompt_tokens)
        if not bool(torch.isfinite(adjusted).all()):
            raise BadNumbers(f"logits at position {position} are not finite once penalties are applied")
    allowed = None
    if params.grammar is not None or position - prompt_tokens < params.min_tokens:
        allowed = _allowed(params, len(logits), position, history, prompt_tokens, masks)
        adjusted = adjusted if allowed is None else adjusted[allowed]
    if params.greedy:
        token_id = int(top_k(adjusted.unsqueeze(0), 1)[1])
    else:
        token_id = choose(adjusted, params, _chance(params.seed, position))
    if allowed is not None:
        token_id = int(allowed[token_id])
    if params.logprobs is None:
        return Drawn(token_id)
    return _with_logprobs(token_id, logits, params.logprobs, top_k)


def draw_along(
    logits: Tensor,
    params: SamplingParams,
    position: int,
    history: Sequence[int],
    prompt_tokens: int,
    drafts: Sequence[int] = (),
    top_k: TopK = reference.top_k,
    masks: Masks | None = None,
) -> list[Drawn]:
    """The token at ``position``; where that is the first of ``drafts``, also the one after it, and so on: from one to
    ``len(drafts) + 1`` tokens, each exactly as ``draw`` alone would have it.

    ``logits`` is f32 [len(drafts) + 1, vocab]: row i is what follows the history and i drafts. Raises BadNumbers
    and BadGrammar.
    """
    assert len(logits) == len(drafts) + 1, f"{len(logits)} rows of logits for {len(drafts)} drafts"
    drawn: list[Drawn] = []
    for index, row in enumerate(logits):
        known = (*history, *drafts[:index]) if params.needs_history and index else history
        drawn.append(draw(row, params, position + index, known, prompt_tokens, top_k, masks))
        if index < len(drafts) and drawn[-1].token_id != drafts[index]:
            break
    return drawn


def _biased(logits: Tensor, params: SamplingParams) -> Tensor:
    logits = logits.clone()
    ids = torch.tensor([token_id for token_id, _ in params.logit_bias], dtype=torch.int64)
    logits[ids] += torch.tensor([bias for _, bias in params.logit_bias], dtype=torch.float32)
    return logits


def _allowed(
    params: SamplingParams, size: int, position: int, history: Sequence[int], prompt_tokens: int, masks: Masks | None
) -> Tensor | None:
    """The ids that may be drawn, ascending; None: all of them."""
    mask = None
    if params.grammar is not None:
        if masks is None:
            raise BadGrammar("grammar: there is no tokenizer here to read it with")
        mask = masks(params.grammar, history[prompt_tokens:])
    if position - prompt_tokens < params.min_tokens and params.end_token_ids:
        others = torch.ones(size, dtype=torch.bool) if mask is None else mask.clone()
        others[list(params.end_token_ids)] = False
        mask = others if bool(others.any()) else mask
    return None if mask is None else mask.nonzero().squeeze(1)


def _penalised(logits: Tensor, params: SamplingParams, history: Sequence[int], prompt_tokens: int) -> Tensor:
    logits = logits.clone()
    if params.repetition_penalty != 1.0 and history:
        ids = torch.tensor(sorted(set(history)), dtype=torch.int64)
        seen, penalty = logits[ids], torch.tensor(params.repetition_penalty, dtype=torch.float32)
        logits[ids] = torch.where(seen < 0, seen * penalty, seen / penalty)
    answer = Counter(history[prompt_tokens:])
    if answer:
        ids = torch.tensor(list(answer), dtype=torch.int64)
        counts = torch.tensor(list(answer.values()), dtype=torch.float32)
        logits[ids] = logits[ids] - params.presence_penalty - counts * params.frequency_penalty
    return logits


def choose(logits: Tensor, params: SamplingParams, chance: int) -> int:
    """The token that ``chance``, uniform in 0 .. 2^64 - 1, falls on."""
    temperature = torch.tensor(max(params.temperature, _LEAST_TEMPERATURE), dtype=torch.float32)
    relative = (logits - logits.max()) / temperature
    weights = (exp(relative).double() * 2.0**_UNIT_BITS).to(torch.int64)
    ids = torch.nonzero(weights).squeeze(1)
    weights, order = torch.sort(weights[ids], descending=True, stable=True)
    ids = ids[order]
    if params.top_k:
        weights = weights[: params.top_k]
    reached = weights.cumsum(0)
    if params.top_p < 1.0:
        numerator, denominator = params.top_p.as_integer_ratio()
        threshold = -(-numerator * int(reached[-1]) // denominator)
        reached = reached[: int((reached < threshold).sum()) + 1]
    if params.min_p > 0.0:
        numerator, denominator = params.min_p.as_integer_ratio()
        least = -(-numerator * int(weights[0]) // denominator)
        reached = reached[: int((weights[: len(reached)] >= least).sum())]
    mark = chance * int(reached[-1]) >> 64
    return int(ids[int((reached <= mark).sum())])


def _chance(seed: int, position: int) -> int:
    digest = hashlib.sha256(b"shoal draw" + seed.to_bytes(8, "little") + position.to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:8], "little")


def _with_logprobs(token_id: int, logits: Tensor, count: int, top_k: TopK) -> Drawn:
    relative = logits - logits.max()
    total = int((exp(relative).double() * 2.0**_UNIT_BITS).to(torch.int64).sum())
    log_total = float(_CONTEXT.ln(_CONTEXT.divide(Decimal(total), Decimal(1 << _UNIT_BITS))))

    def logprob(index: int) -> float:
        """In FP32, as the wire carries it: the Head's place is not to be told from it."""
        (rounded,) = struct.unpack("<f", struct.pack("<f", float(relative[index]) - log_total))
        return rounded

    order = top_k(logits.unsqueeze(0), min(count, len(logits)))[1].squeeze(0).tolist() if count else []
    return Drawn(token_id, logprob(token_id), tuple((index, logprob(index)) for index in order))
