"""The Ends in memory, ready to compute, and no Block: what a client holds that keeps its token ids to itself.

Computes what a Peer with the first or the last Block would, by the same code and from the same files of the cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels import REFERENCE, Kernels, select
from model.assets import TOKENIZER
from model.config import ModelConfig
from model.config_cache import known_config
from model.constraint import Constraints
from model.ends import Embedding, Head
from model.fingerprint import fingerprint
from model.grammar import read_tokenizer
from model.sampler import Drawn, draw_along
from model.source import DEFAULT_MODEL, DEFAULT_MODEL_NAME, Source, open_source
from model.weights import load_ends
from swarm.errors import BadRequest, ModelNotFound, UsageError
from swarm.peerinfo import ModelRef
from swarm.profile import APPROXIMATE, PROFILES, Profile
from swarm.sampling import SamplingParams

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_ARITHMETIC: dict[str, Profile] = {**{profile: profile for profile in PROFILES}, APPROXIMATE: "c8"}  # here it is exact


class EndsModel:
    """Takes and returns tensors on the host. Not safe to call from two threads at once."""

    def __init__(
        self, config: ModelConfig, embedding: Embedding, head: Head, kernels: Kernels,
        constraints: Constraints | None = None,
    ):  # fmt: skip
        self.config = config
        self._constraints = constraints
        self._embedding, self._head, self._top_k = embedding, head, kernels.top_k

    @classmethod
    def load(
        cls,
        source: Source,
        config: ModelConfig,
        profile: Profile,
        cache_dir: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
        threads: int | None = None,
    ) -> EndsModel:
        """Read the tensors of the Ends (or the cache's). Raises ModelError, UsageError."""
        kernels = select(None if profile == "c8" else REFERENCE, threads)
        ends = load_ends(source, config, profile, cache_dir, progress, kernels.layout, threads or 1)
        assert ends.embedding is not None and ends.norm is not None and ends.head is not None
        head = Head(ends.norm, ends.head, config.rms_eps, kernels)
        constraints = Constraints(_tokenizer(source.directory, config), config.vocab_size)
        return cls(config, Embedding(ends.embedding, kernels), head, kernels, constraints)

    @torch.inference_mode()
    def embed(self, token_ids: Sequence[int]) -> Tensor:
        """[len(token_ids), hidden] f32. Raises BadRequest for an id outside the vocabulary."""
        return self._embedding.rows(token_ids)

    @torch.inference_mode()
    def draw(
        self,
        x: Tensor,
        params: SamplingParams,
        position: int,
        history: Sequence[int],
        prompt_tokens: int,
        drafts: Sequence[int] = (),
    ) -> list[Drawn]:
        """``model.sampler.draw_along`` on the logits of ``x`` f32 [len(drafts) + 1, hidden], the last Block's output
        at ``position`` - 1 and after. Raises BadNumbers, BadRequest, BadGrammar, ModelError.
        """
        if tuple(x.shape) != (len(drafts) + 1, self.config.hidden_size):
            raise BadRequest(
                f"hidden states {list(x.shape)} came, expected {[len(drafts) + 1, self.config.hidden_size]}"
            )
        logits = self._head.logits(x)
        masks = None if self._constraints is None else self._constraints.masks(params.seed)
        return draw_along(logits, params, position, history, prompt_tokens, drafts, self._top_k, masks)


def open_ends(
    model: str | None,
    revision: str | None,
    served: ModelRef,
    profile: str,
    cache_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> EndsModel:
    """Find the checkpoint ``model`` (a directory or a Hub id), see that it is the one ``served``, and load its Ends.

    None: what the swarm itself calls its model, where that is the sample model or a Hub id. Of the Blocks nothing is
    read but what the fingerprint samples. Raises UsageError where it is another model, and whatever ``open_source``
    and ``load_ends`` do.
    """
    arithmetic = _ARITHMETIC.get(profile)
    if arithmetic is None:
        raise UsageError(f"there is no profile {profile!r} for the Ends; choose one of {', '.join(_ARITHMETIC)}")
    source = open_source(_found(served) if model is None else model, revision, cache_dir)
    config = known_config(source.directory, source.name, cache_dir)
    found = fingerprint(source, config)
    if found != served.fingerprint:
        raise UsageError(
            f"the Ends would be of another model: {source.name} is {found}, the swarm serves {served.name} "
            f"({served.fingerprint}); name that one's checkpoint"
        )
    return EndsModel.load(source, config, arithmetic, cache_dir, progress, threads)


def _tokenizer(directory: Path, config: ModelConfig) -> Callable[[], LLTokenizer]:
    """Read when the first grammar comes."""

    @cache
    def read() -> LLTokenizer:
        try:
            data = (directory / TOKENIZER).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelNotFound(f"a grammar needs the model's {TOKENIZER}, which cannot be read: {error}") from None
        return read_tokenizer(data, config.vocab_size, config.eos_token_ids)

    return read


def _found(served: ModelRef) -> str | Path:
    """Where the model is that a swarm calls so. Strangers choose these names: the fingerprint is what proves it."""
    if served.name == DEFAULT_MODEL_NAME:
        return DEFAULT_MODEL
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?", served.name):
        return served.name
    raise UsageError(
        f"the Ends are to come from the checkpoint of {served.name!r}, which is no Hub id; name its directory"
    )
