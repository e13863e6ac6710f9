"""Picture: Sightings → what the API says. Pure: values in, plain JSON values out.

Whether a model is well is a question of what a Session could use: Peers that are READY and answer, in the Profile that
clients would take. A Session needs every Block exactly once, so no more Sessions run, and no more tokens come out, than
pass the Block where they are fewest: that is how both are counted, and a Peer that is seen twice is counted once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from client.served import choose_profile
from dashboard import joining
from dashboard.sightings import Sighting, Standing
from dht.records import TTL_S
from proto.limits import PAGE_TOKENS
from swarm.peerinfo import ModelRef
from swarm.profile import accepts
from swarm.router import SMALLEST_BLOCK_S
from swarm.span import Span
from swarm.view import SwarmView

Json = dict[str, Any]
T = TypeVar("T")

MAX_SESSIONS = 4096  # of one Peer: what it may say, PeerConfig allows no more
PASSING = ("at", "age_s", "expires_in_s", "rtt_ms")  # values that change without anything having happened


@dataclass(frozen=True, slots=True)
class Hints:
    """What the picture cannot see by itself. ``join``: addresses that newcomers may be told."""

    version: str
    join: tuple[str, ...] = ()
    try_tokens: int | None = None  # None: no "Try it" here


def swarm_picture(sightings: Sequence[Sighting], wall: float, hints: Hints) -> Json:
    """The body of ``/api/v1/swarm``."""
    present = [s for s in sightings if s.standing is not Standing.GONE]
    by_model: dict[str, list[Sighting]] = {}
    for sighting in present:
        by_model.setdefault(sighting.info.model.fingerprint, []).append(sighting)
    models = [_model(group, wall, hints) for group in by_model.values()]
    models.sort(key=lambda model: (model["name"], model["fingerprint"]))
    return {
        "at": round(wall, 3),
        "version": hints.version,
        "ttl_s": TTL_S,
        "try": None if hints.try_tokens is None else {"max_tokens": hints.try_tokens},
        "models": models,
        "peers": [peer_row(sighting, wall) for sighting in sightings],
        "links": links(present),
        "totals": {
            "peers": len(present),
            "ready": sum(s.serves for s in present),
            "sessions": sum(model["sessions"] for model in models),
            "tokens_per_s": round(sum(model["tokens_per_s"] for model in models), 2),
        },
    }


def peer_row(sighting: Sighting, wall: float) -> Json:
    """One Peer. Its address only where its owner opted in; never a prompt, for none is known here."""
    info, stats = sighting.info, sighting.stats
    gone = sighting.standing is Standing.GONE
    if stats is not None:
        pages = {"used": stats.pages_used, "total": stats.pages}
    else:
        total, free = info.kv_tokens // PAGE_TOKENS, info.kv_tokens_free // PAGE_TOKENS
        pages = {"used": 0 if gone else max(0, total - free), "total": total}
    left_s = sighting.record_expires_at - wall
    return {
        "id": info.peer_id,
        "name": info.name,
        "model": info.model.fingerprint,
        "span": str(info.span),
        "state": sighting.standing.value,
        "profile": info.profile,
        "version": info.version,
        "tokens_per_s": _rounded(sighting.tokens_per_s, 2),
        "sessions": 0 if gone else sessions_of(sighting),
        "pages": pages,
        "queue_tokens": 0 if gone else info.queue_tokens,
        "block_ms": round(info.block_s * 1000, 4),
        "age_s": round(max(0.0, TTL_S - left_s), 1),
        "expires_in_s": 0.0 if gone else round(max(0.0, left_s), 1),
        "rtt_ms": _milli(sighting.rtt_s),
        "reachable": False if gone else sighting.reachable,
        "address": info.address if info.public_address else None,
    }


def links(sightings: Iterable[Sighting]) -> list[Json]:
    """What flows from whom to whom, by the word of who sends. Only to Peers that are there."""
    sightings = list(sightings)
    there = {s.info.peer_id for s in sightings}
    return [
        {
            "from": sighting.info.peer_id,
            "to": flow.peer_id or "clients",
            "rtt_ms": _milli(flow.rtt_s),
            "sessions": min(flow.seats, MAX_SESSIONS),
        }
        for sighting in sightings
        if sighting.stats is not None and sighting.reachable
        for flow in sighting.stats.flows
        if flow.peer_id is None or (flow.peer_id in there and flow.peer_id != sighting.info.peer_id)
    ]


def substance(picture: Json) -> Json:
    """The picture without what passes by itself: of two that are equal here, one is no news."""
    rows = [{k: v for k, v in row.items() if k not in PASSING} for row in picture["peers"]]
    found = {k: v for k, v in picture.items() if k not in PASSING}
    return {**found, "peers": rows, "links": [{**link, "rtt_ms": None} for link in picture["links"]]}


def point(picture: Json) -> Json:
    """One point of the history."""
    totals = picture["totals"]
    return {
        "at": picture["at"],
        "tokens_per_s": totals["tokens_per_s"],
        "sessions": totals["sessions"],
        "peers": totals["peers"],
        "min_replicas": min((min(model["coverage"]) for model in picture["models"]), default=0),
    }


def sessions_of(sighting: Sighting) -> int:
    """Seats that are taken there."""
    return min(sighting.info.sessions, MAX_SESSIONS) if sighting.reachable else 0


def _model(group: Sequence[Sighting], wall: float, hints: Hints) -> Json:
    model = _ref(group)
    members = [s for s in group if s.info.model.num_blocks == model.num_blocks]
    view = SwarmView(model, tuple(s.info for s in members if s.serves), wall)
    profile = choose_profile(view, None)
    serving = [s for s in members if s.serves and accepts(profile, s.info.profile)]
    holders = _holders(model.num_blocks, serving)
    coverage = [len(each) for each in holders]
    least = min(coverage)
    counted = [s for s in members if s.reachable is True]
    return {
        "name": model.name,
        "fingerprint": model.fingerprint,
        "num_blocks": model.num_blocks,
        "state": "broken" if least == 0 else "fragile" if least == 1 else "healthy",
        "coverage": coverage,
        "weakest": _weakest(holders),
        "single": [str(span) for span in _runs(holders, lambda each: len(each) == 1)],
        "gaps": [str(span) for span in _runs(holders, lambda each: not each)],
        "tokens_per_s": round(_least(model.num_blocks, [(s.info.span, s.tokens_per_s) for s in counted]), 2),
        "sessions": round(_least(model.num_blocks, [(s.info.span, float(sessions_of(s))) for s in counted])),
        "peers": len(group),
        "join": _join(model, profile, members, hints),
    }


def _ref(group: Sequence[Sighting]) -> ModelRef:
    """The model as most of its Peers have it, those that serve first: a stranger may give it any name."""
    said = [s.info.model for s in group if s.serves] or [s.info.model for s in group]
    counts = Counter(said)
    return min(counts, key=lambda model: (-counts[model], model.name, model.num_blocks))


def _holders(num_blocks: int, serving: Iterable[Sighting]) -> list[tuple[Sighting, ...]]:
    """Who serves each Block."""
    return _held(num_blocks, [(sighting.info.span, sighting) for sighting in serving])


def _held(num_blocks: int, items: Sequence[tuple[Span, T]]) -> list[tuple[T, ...]]:
    """What lies over each Block: one tuple for all Blocks of a range in which that stays the same."""
    edges: dict[int, list[int]] = {0: [], num_blocks: []}  # where items begin or end, by their numbers
    for number, (span, _) in enumerate(items):
        edges.setdefault(span.start, []).append(number)
        edges.setdefault(span.end, []).append(number)
    over: dict[int, T] = {}
    held: list[tuple[T, ...]] = []
    for start, end in pairwise(sorted(edges)):
        for number in edges[start]:
            if number in over:
                del over[number]
            else:
                over[number] = items[number][1]
        held += [tuple(over.values())] * (end - start)
    return held


def _runs(held: Sequence[tuple[T, ...]], wanted: Callable[[tuple[T, ...]], bool]) -> list[Span]:
    """Ranges of Blocks that are ``wanted``, each with the same things over it throughout."""
    runs: list[Span] = []
    for block, each in enumerate(held):
        if not wanted(each):
            continue
        if runs and runs[-1].end == block and held[block - 1] is each:
            runs[-1] = Span(runs[-1].start, block + 1)
        else:
            runs.append(Span(block, block + 1))
    return runs


def _weakest(holders: Sequence[tuple[Sighting, ...]]) -> Json:
    """Fewest replicas first, then the least that these could compute."""
    spans = _runs(holders, lambda each: True)
    by_span = [(span, holders[span.start]) for span in spans]
    span, holding = min(by_span, key=lambda run: (len(run[1]), _capacity(run[1]) or 0.0, run[0].start))
    return {"blocks": str(span), "replicas": len(holding), "tokens_per_s": _rounded(_capacity(holding), 1)}


def _capacity(holding: Iterable[Sighting]) -> float | None:
    """Tokens a second of as many Sessions as there are replicas, one each, by the Peers' own measure of a decode step
    through their whole Span. None where one of them has not measured.
    """
    total = 0.0
    for sighting in holding:
        info = sighting.info
        if info.block_s < SMALLEST_BLOCK_S:
            return None
        total += 1.0 / (info.block_s * len(info.span))
    return total


def _least(num_blocks: int, values: Sequence[tuple[Span, float | None]]) -> float:
    """The least sum of any Block that somebody holds; Blocks of Peers that do not say count for nothing."""
    sums: list[float] = []
    last: tuple[float | None, ...] = ()
    for said in _held(num_blocks, values):
        if said and said is not last and None not in said:
            sums.append(sum(value for value in said if value is not None))
        last = said
    return min(sums, default=0.0)


def _join(model: ModelRef, profile: str, members: Sequence[Sighting], hints: Hints) -> Json:
    """What is needed most, those counted that are still loading: else all who come would fill the same gap."""
    coming = [
        s
        for s in members
        if s.standing in (Standing.JOINING, Standing.READY)
        and s.reachable is not False
        and accepts(profile, s.info.profile)
    ]
    replicas = [len(each) for each in _holders(model.num_blocks, coming)]
    least = min(replicas)
    blocks = max(_equal_runs(replicas, least), key=lambda span: (len(span), -span.start))
    if least == 0:
        why = f"nobody serves blocks {blocks}"
    elif least == 1:
        why = f"blocks {blocks} have one replica"
    elif len(blocks) == model.num_blocks:
        why = f"all blocks have {least} replicas; one more makes all of them faster and safer"
    else:
        why = f"blocks {blocks} have {least} replicas, no others have fewer"
    return {
        "command": joining.command(model.name, blocks, profile, hints.join),
        "complete": bool(hints.join),
        "blocks": str(blocks),
        "why": why,
    }


def _equal_runs(values: Sequence[int], wanted: int) -> list[Span]:
    runs: list[Span] = []
    for block, value in enumerate(values):
        if value != wanted:
            continue
        if runs and runs[-1].end == block:
            runs[-1] = Span(runs[-1].start, block + 1)
        else:
            runs.append(Span(block, block + 1))
    return runs


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
