"""Served: one model as a swarm serves it, and everything a client has to know of it before the first Session.

Which model is meant, in which Profile, how large it is, where it ends, and how its text is made: all told by peers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from client.assets import AssetStore
from client.pathfinder import Scout
from client.sampling import Wish
from client.text import Codec, generation_defaults
from dht.directory import Directory
from proto.messages import AssetRef, Info
from swarm.errors import Fault, NoRoute, SwarmError, UsageError
from swarm.peerinfo import ModelRef, PeerInfo
from swarm.span import Span, uncovered
from swarm.view import SwarmView

INFO_TIMEOUT_S = 5.0
FAVOURITE = "c8"  # the Profile whose tokens do not depend on the Route


class Asker(Protocol):
    """The part of ``client.links.Links`` that is used."""

    async def info(self, peer: PeerInfo, timeout_s: float) -> Info: ...
    async def asset(self, peer: PeerInfo, ref: AssetRef) -> bytes: ...


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

    A model stays announced for a while after its last peer has left, so that somebody serves it is looked up. Raises
    UsageError for a wrong name and for several, SwarmError where there is none.
    """
    while True:
        meant: list[ModelRef] = []
        trouble: SwarmError | None = None
        try:
            meant = choose_models(await directory.models(), wanted)
            living = [model for model in meant if (await directory.view(model)).usable()]
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
            if len(meant) == 1:
                raise NoRoute(f"nobody serves {_names(meant)} now", (Span(0, meant[0].num_blocks),))
            raise SwarmError(
                f"nobody serves any of these models now: {_names(meant)}"
                if meant
                else "nobody in this swarm serves a model; start a peer: python -m peer.serve --join …"
            )


def _names(models: Sequence[ModelRef]) -> str:
    return ", ".join(f"{m.name} ({m.fingerprint})" for m in models)


def choose_profile(view: SwarmView, wanted: str | None) -> str:
    """``wanted``, or else a Profile that covers the model, c8 before others; c8 where none does."""
    if wanted is not None:
        return wanted
    profiles = sorted({p.profile for p in view.usable()}, key=lambda profile: (profile != FAVOURITE, profile))
    covering = (p for p in profiles if not uncovered(view.span, (peer.span for peer in view.usable(p))))
    return next(covering, FAVOURITE)


async def learn(
    scout: Scout, asker: Asker, store: AssetStore, wanted_profile: str | None, wait: Callable[[], Awaitable[bool]]
) -> Served:
    """Ask peers, nearest first, until one has told everything. ``wait`` returns False when waiting is over.

    Raises NoRoute while nobody serves the model, SwarmError with the last Fault when nobody who does would answer.
    """
    while True:
        seen = scout.view
        profile = choose_profile(seen, wanted_profile)
        last: Fault | None = None
        peers = sorted(seen.usable(profile), key=lambda p: (scout.rtt_s(p), p.peer_id))
        for peer in peers:
            try:
                info = await asker.info(peer, INFO_TIMEOUT_S)
                directory = await store.collect(info.assets, lambda ref, peer=peer: asker.asset(peer, ref))
            except Fault as fault:
                last = fault
                continue
            return Served(
                model=seen.model, profile=profile, hidden_size=info.hidden_size, vocab_size=info.vocab_size,
                max_positions=info.max_positions, eos_token_ids=info.eos_token_ids,
                codec=await asyncio.to_thread(Codec, directory), defaults=generation_defaults(directory),
            )  # fmt: skip
        if not await wait():
            if last is None:
                raise NoRoute(f"nobody serves {seen.model.name} in profile {profile} now", (seen.span,))
            raise SwarmError(f"none of {len(peers)} peers tells what {seen.model.name} is; the last one: {last}")
