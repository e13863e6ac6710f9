"""Short ways to write peers and views."""

from __future__ import annotations

import asyncio
from typing import Any

from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.span import Span
from swarm.view import SwarmView

NOW = 1_000_000.0  # where a VirtualClock begins


def a_model(num_blocks: int = 24, name: str = "sample", digit: str = "a") -> ModelRef:
    return ModelRef(name, digit * 32, num_blocks)


def a_peer(number: int = 1, span: str = "0:24", **changes: Any) -> PeerInfo:
    """The Peer with that number as its peer_id, READY until 45 s from NOW."""
    values: dict[str, Any] = {
        "peer_id": f"{number:032x}",
        "instance": 1,
        "model": a_model(),
        "span": Span.parse(span),
        "address": f"10.0.0.{number}:4000",
        "profile": "c8",
        "state": PeerState.READY,
        "version": "0.1.0",
        "kv_tokens": 4096,
        "kv_tokens_free": 4096,
        "sessions": 0,
        "queue_tokens": 0,
        "block_s": 0.01,
        "expires_at": NOW + 45,
    }
    return PeerInfo(**{**values, **changes})


def a_view(*peers: PeerInfo, model: ModelRef | None = None, now: float = NOW) -> SwarmView:
    return SwarmView.of(model or (peers[0].model if peers else a_model()), peers, now)


async def settle(turns: int = 20) -> None:
    """Lets every task of the loop go on as far as it can without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)
