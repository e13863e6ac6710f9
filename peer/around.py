"""What a Peer has to know of the others: whom it may dial, who shares its model's name, how much they may send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from peer.neighbours import Known
from proto.limits import Limits
from proto.messages import Neighbour, WireDType
from proto.options import MAX_MESSAGE_BYTES
from proto.scan import MAX_CONTROL_BYTES
from swarm.clock import Clock
from swarm.errors import ShoalError
from swarm.peerinfo import ModelRef

if TYPE_CHECKING:
    from dht.directory import Directory
    from model.config import ModelConfig

VIEW_S = 1.0  # before the swarm is asked again for a Peer that it did not announce

log = structlog.get_logger("peer.around")


def limits_for(model: ModelConfig, max_chunk_tokens: int) -> Limits:
    """What is taken from a client: as much as an honest one sends, a full Chunk with control entries beside it."""
    chunk = max_chunk_tokens * model.hidden_size * WireDType.F32.itemsize
    return Limits(
        hidden_size=model.hidden_size,
        vocab_size=model.vocab_size,
        max_chunk_tokens=max_chunk_tokens,
        max_tokens=model.max_positions,
        max_history=model.max_positions,
        max_frame_bytes=min(chunk + MAX_CONTROL_BYTES, MAX_MESSAGE_BYTES),
    )


def announced(directory: Directory, model: ModelRef, clock: Clock) -> Known:
    """Whether the swarm announces a Peer at an address: looked up again when it is not known, at most once a second."""
    addresses: set[tuple[str, str]] = set()
    looked_at: float | None = None
    looking = asyncio.Lock()  # who asks meanwhile waits for what is found

    async def known(to: Neighbour) -> bool:
        nonlocal looked_at
        if (to.peer_id, to.address) in addresses:
            return True
        async with looking:
            now = clock.monotonic()
            if (to.peer_id, to.address) not in addresses and (looked_at is None or now - looked_at >= VIEW_S):
                looked_at = now
                view = await directory.view(model)
                addresses.clear()
                addresses.update((peer.peer_id, peer.address) for peer in view.peers)
        return (to.peer_id, to.address) in addresses

    return known


async def warn_of_namesakes(ref: ModelRef, directory: Directory) -> None:
    """Peers of other weights under the same name never share a Session with this one, which surprises people."""
    try:
        models = await directory.models()
    except ShoalError as error:
        log.warning("cannot see which other models the swarm has", why=str(error))
        return
    for other in models:
        if other.name == ref.name and other.fingerprint != ref.fingerprint:
            log.warning(
                "the swarm has another model of this name", name=ref.name, ours=ref.fingerprint, other=other.fingerprint
            )
