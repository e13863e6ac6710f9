"""What a Peer has to know of the others: whom it may dial, who shares its model's name, how much they may send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

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
FRESH_S = 5.0  # between looks at everybody

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


class Announced:
    """Which Peers the swarm announces, and where: looked up every now and then, so that it is known when it matters,
    and again when somebody is asked for who is not there.
    """

    def __init__(self, directory: Directory, model: ModelRef, clock: Clock):
        self._directory, self._model, self._clock = directory, model, clock
        self._addresses: frozenset[tuple[str, str]] = frozenset()
        self._looked_at: float | None = None
        self._looking: asyncio.Task[None] | None = None  # who asks meanwhile waits for what is found

    async def __call__(self, to: Neighbour) -> bool:
        """Raises SwarmError where the swarm cannot be seen. Who does not want to wait for it leaves; it goes on."""
        wanted = (to.peer_id, to.address)
        if wanted not in self._addresses:
            fresh = self._looked_at is not None and self._clock.monotonic() - self._looked_at < VIEW_S
            if not fresh or self._looking is not None:
                await asyncio.shield(self._look())
        return wanted in self._addresses

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self._look()
            except ShoalError as error:
                log.info("cannot see who is in the swarm", why=str(error))
            await self._clock.sleep(FRESH_S)

    def _look(self) -> asyncio.Task[None]:
        """The look that is under way, or a new one."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._view())
            self._looking.add_done_callback(self._looked)
        return self._looking

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # heard, whether or not somebody still waits

    async def _view(self) -> None:
        view = await self._directory.view(self._model)
        self._looked_at = self._clock.monotonic()
        self._addresses = frozenset((peer.peer_id, peer.address) for peer in view.peers)


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
