"""Served: one model as a swarm serves it, and everything a client has to know of it before the first Session.

Which model is meant, in which Profile, how large it is, where it ends, and how its text is made: all told by peers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.sampling import Wish
from client.text import Codec
from dht.directory import Directory
from swarm.errors import NoRoute, SwarmError, UsageError
from swarm.peerinfo import ModelRef
from swarm.profile import APPROXIMATE
from swarm.span import Span, uncovered
from swarm.view import SwarmView

FAVOURITE = "c8"  # the Profile whose tokens do not depend on the Route


@dataclass(frozen=True, slots=True)
class Served:
    model: ModelRef
    profile: str
    hidden_size: int
    vocab_size: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
    codec: Codec
    defaults: Mapping[str, Any]  # generation_config.json

    def room(self, prompt: Sequence[int], wish: Wish, view: SwarmView, default_new_tokens: int) -> int:
        """How many new tokens a Session may draw: what was asked for, or what fits. Raises UsageError."""
        if not prompt:
            raise UsageError("the prompt is empty; give the model at least one token to begin with")
        bad = next((token_id for token_id in prompt if not 0 <= token_id < self.vocab_size), None)
        if bad is not None:
            raise UsageError(f"the prompt holds token id {bad}, the model has ids 0..{self.vocab_size - 1}")
        biased = [token_id for token_id, _ in wish.sampling.logit_bias]
        for name, ids in (("stop_token_ids", wish.stop_token_ids), ("logit_bias", biased)):
            bad = next((token_id for token_id in ids if not 0 <= token_id < self.vocab_size), None)
            if bad is not None:
                raise UsageError(f"{name} holds token id {bad}, the model has ids 0..{self.vocab_size - 1}")
        room = self.max_positions - len(prompt)
        wanted = wish.max_new_tokens
        if room < 1 or (wanted is not None and wanted > room):
            asked = "" if wanted is None else f" and {wanted} new ones"
            raise UsageError(
                f"a prompt of {len(prompt)} tokens{asked} is more than the model's {self.max_positions} positions; "
                "shorten it or ask for less"
            )
        largest = largest_budget(view, self.profile)
        room = room if largest is None else min(room, largest - len(prompt))
        if room < 1 or (wanted is not None and wanted > room):
            asked = "a new token" if wanted is None else f"{wanted} new ones"
            raise UsageError(
                f"a prompt of {len(prompt)} tokens and {asked} are more than any route of this swarm can hold: "
                f"its largest KV budget is {largest} tokens; ask for less or start a peer with more --kv-tokens"
            )
        return min(default_new_tokens, room) if wanted is None else wanted


def largest_budget(view: SwarmView, profile: str) -> int | None:
    """The most KV tokens that one Session could have everywhere; None while some Block has nobody at all."""
    peers = view.usable(profile)
    budgets = [max((p.kv_tokens for p in peers if block in p.span), default=None) for block in view.span]
    return None if None in budgets else min(b for b in budgets if b is not None)


def choose_models(models: Sequence[ModelRef], wanted: str | None) -> list[ModelRef]:
    """Those that may be meant; none while the swarm announces nothing. Raises UsageError that lists what there is."""
    found = [m for m in models if wanted in (None, m.name, m.fingerprint)]
    if models and not found:
        raise UsageError(f"this swarm does not serve {wanted!r}; it serves {_names(models)}")
    return found


async def find_model(directory: Directory, wanted: str | None, wait: Callable[[], Awaitable[bool]]) -> ModelRef:
    """The one model that is meant and that somebody serves now. ``wait`` returns False when waiting is over.

    A fingerprint is one model, whatever names its peers give it. A model stays announced for a while after its last
    peer has left, so that somebody serves it is looked up. Raises UsageError for a wrong name and for several,
    SwarmError where there is none.
    """
    while True:
        meant: list[ModelRef] = []
        trouble: SwarmError | None = None
        try:
            meant = choose_models(await directory.models(), wanted)
            living = await _living(directory, meant, wanted)
        except SwarmError as error:
            living, trouble = [], error
        if len(living) > 1:
            raise UsageError(
                f"this swarm serves {len(living)} models that may be meant; "
                f"name one, or its fingerprint: {_names(living)}"
            )
        if living:
            return living[0]
        if not await wait():
            if trouble is not None:
                raise trouble
            if len({model.fingerprint for model in meant}) == 1:
                raise NoRoute(f"nobody serves {_names(meant)} now", (Span(0, meant[0].num_blocks),))
            raise SwarmError(
                f"nobody serves any of these models now: {_names(meant)}"
                if meant
                else "nobody in this swarm serves a model; start a peer: python -m peer.serve --join …"
            )


async def _living(directory: Directory, meant: Sequence[ModelRef], wanted: str | None) -> list[ModelRef]:
    """One entry for each fingerprint that somebody serves: as most of its peers have it, by ``wanted`` if a name."""
    found: dict[str, tuple[int, ModelRef]] = {}  # by fingerprint: (how many serve it, as what)
    for fingerprint, num_blocks in dict.fromkeys((m.fingerprint, m.num_blocks) for m in meant):
        names = sorted(m.name for m in meant if (m.fingerprint, m.num_blocks) == (fingerprint, num_blocks))
        peers = (await directory.view(ModelRef(names[0], fingerprint, num_blocks))).usable()
        if len(peers) > found.get(fingerprint, (0, None))[0]:
            used = Counter(sorted(p.model.name for p in peers)).most_common(1)[0][0]
            found[fingerprint] = len(peers), ModelRef(wanted if wanted in names else used, fingerprint, num_blocks)
    return [model for _, model in found.values()]


def _names(models: Sequence[ModelRef]) -> str:
    return ", ".join(f"{m.name} ({m.fingerprint})" for m in models)


def choose_profile(view: SwarmView, wanted: str | None) -> str:
    """``wanted``, or else a Profile that covers the model, c8 before others; c8 where none does.

    Never c8-approx: tokens that nobody can repeat are something to be asked for.
    """
    if wanted is not None:
        return wanted
    offered = {p.profile for p in view.usable()} - {APPROXIMATE}
    profiles = sorted(offered, key=lambda profile: (profile != FAVOURITE, profile))
    covering = (p for p in profiles if not uncovered(view.span, (peer.span for peer in view.usable(p))))
    return next(covering, FAVOURITE)
