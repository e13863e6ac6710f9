"""Snapshot: the picture of a swarm as values, read from the JSON of ``/api/v1/swarm`` (docs/dashboard.md).

It may come from a stranger's server, so nothing in it is believed: what is missing or of another kind becomes a plain
default, text is made plain, lists are cut. Only what is no picture at all is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shoal.plain import plain
from swarm.errors import BadRequest

MAX_MODELS, MAX_PEERS, MAX_BLOCKS, MAX_RANGES = 32, 1024, 4096, 64


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    fingerprint: str
    state: str  # healthy, fragile, broken; what else a newer version may say
    coverage: tuple[int, ...]  # ready replicas of each Block
    weakest: str  # a Span; "" where it is not known
    single: tuple[str, ...]
    gaps: tuple[str, ...]
    tokens_per_s: float
    sessions: int
    peers: int
    command: str
    why: str


@dataclass(frozen=True, slots=True)
class Peer:
    id: str
    name: str
    model: str
    span: tuple[int, int]
    state: str
    profile: str
    version: str
    tokens_per_s: float | None
    sessions: int
    pages_used: int
    pages: int
    queue_tokens: int
    age_s: float
    rtt_ms: float | None
    reachable: bool | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: float  # wall clock of whoever took it
    models: tuple[Model, ...]
    peers: tuple[Peer, ...]
    ready: int
    sessions: int
    tokens_per_s: float


def read_snapshot(body: Any) -> Snapshot:
    """Raises BadRequest for what is no picture of a swarm."""
    if (
        not isinstance(body, dict)
        or not isinstance(body.get("models"), list)
        or not isinstance(body.get("peers"), list)
    ):
        raise BadRequest("that is no picture of a swarm: it has no models and peers")
    totals = _dict(body.get("totals"))
    return Snapshot(
        at=_number(body.get("at")),
        models=tuple(_model(_dict(model)) for model in body["models"][:MAX_MODELS]),
        peers=tuple(_peer(_dict(peer)) for peer in body["peers"][:MAX_PEERS]),
        ready=_whole(totals.get("ready")),
        sessions=_whole(totals.get("sessions")),
        tokens_per_s=_number(totals.get("tokens_per_s")),
    )


def read_past(body: Any) -> tuple[float, ...]:
    """Tokens/s of the past, oldest first, from the JSON of ``/api/v1/history``; empty for what is none."""
    points = _list(_dict(body).get("points"))[-1000:]
    return tuple(_number(_dict(point).get("tokens_per_s")) for point in points)


def _model(said: dict[str, Any]) -> Model:
    join, weakest = _dict(said.get("join")), _dict(said.get("weakest"))
    return Model(
        name=plain(said.get("name"), 80) or "?",
        fingerprint=plain(said.get("fingerprint"), 32),
        state=plain(said.get("state"), 16) or "?",
        coverage=tuple(_whole(count) for count in _list(said.get("coverage"))[:MAX_BLOCKS]),
        weakest=plain(weakest.get("blocks"), 16),
        single=_ranges(said.get("single")),
        gaps=_ranges(said.get("gaps")),
        tokens_per_s=_number(said.get("tokens_per_s")),
        sessions=_whole(said.get("sessions")),
        peers=_whole(said.get("peers")),
        command=plain(join.get("command"), 1000),
        why=plain(join.get("why"), 200),
    )


def _peer(said: dict[str, Any]) -> Peer:
    pages = _dict(said.get("pages"))
    start, _, end = plain(said.get("span"), 16).partition(":")
    reachable = said.get("reachable")
    return Peer(
        id=plain(said.get("id"), 32),
        name=plain(said.get("name"), 40),
        model=plain(said.get("model"), 32),
        span=(int(start), int(end)) if _digits(start) and _digits(end) else (0, 0),
        state=plain(said.get("state"), 10) or "?",
        profile=plain(said.get("profile"), 12),
        version=plain(said.get("version"), 20),
        tokens_per_s=_maybe(said.get("tokens_per_s")),
        sessions=_whole(said.get("sessions")),
        pages_used=_whole(pages.get("used")),
        pages=_whole(pages.get("total")),
        queue_tokens=_whole(said.get("queue_tokens")),
        age_s=_number(said.get("age_s")),
        rtt_ms=_maybe(said.get("rtt_ms")),
        reachable=reachable if isinstance(reachable, bool) else None,
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _ranges(value: Any) -> tuple[str, ...]:
    return tuple(text for each in _list(value)[:MAX_RANGES] if (text := plain(each, 16)))


def _maybe(value: Any) -> float | None:
    """A number from 0 on that can be drawn; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e15 and math.isfinite(value) else None


def _number(value: Any) -> float:
    return _maybe(value) or 0.0


def _whole(value: Any) -> int:
    return int(_number(value))


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 7
