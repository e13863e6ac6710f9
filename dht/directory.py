"""Directory: publish oneself, withdraw, and see who else is there.

``Directory`` is what the rest of Shoal knows. ``RecordDirectory`` is all of it but the storage: which records go under
which keys, and what is believed of those that come back. ``memory`` and ``node`` add how a value is put and got.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Protocol

from dht.records import MODELS_KEY, decode_record, encode_record, farewell, model_subkey, segment_keys
from swarm.clock import Clock
from swarm.errors import BadRequest, SwarmUnreachable, UsageError
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.span import Span
from swarm.view import SwarmView

log = logging.getLogger("shoal.dht")

Stored = Mapping[str, tuple[bytes, float]]  # of one key: subkey → (value, expiry as wall clock)


class Directory(Protocol):
    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others can join through this process; empty for a pure client."""
        ...

    async def publish(self, info: PeerInfo) -> None:
        """Stores ``info`` until its expiry, which must be later than any published before for that Peer (UsageError).

        Raises SwarmUnreachable when it could be stored nowhere.
        """
        ...

    async def withdraw(self, info: PeerInfo) -> None:
        """Replaces what was published for that Peer by its withdrawal. Raises SwarmUnreachable as ``publish`` does."""
        ...

    async def models(self) -> tuple[ModelRef, ...]:
        """All models that somebody announced lately, one for each name in use. Raises SwarmUnreachable."""
        ...

    async def view(self, model: ModelRef) -> SwarmView:
        """Who serves ``model`` now. Raises SwarmUnreachable; never for a bad record, which is dropped."""
        ...

    async def close(self) -> None: ...


class RecordDirectory(ABC):
    """A Directory over anything that keeps dictionaries of (value, expiry) and lets the later expiry win."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._closed = False
        self._last_expiry: dict[str, float] = {}  # by peer_id, of what this process published

    @abstractmethod
    async def _put(self, keys: Mapping[str, str], value: bytes, expires_at: float) -> bool:
        """Stores ``value`` under every key → subkey. False when every copy was refused for a later one."""

    @abstractmethod
    async def _get(self, keys: Collection[str]) -> Mapping[str, Stored]:
        """What is stored and not expired under ``keys``; a key with nothing may be absent."""

    @property
    @abstractmethod
    def addresses(self) -> tuple[str, ...]: ...

    async def publish(self, info: PeerInfo) -> None:
        last = self._last_expiry.get(info.peer_id)
        if last is not None and info.expires_at <= last:
            raise UsageError(f"{info} would expire at {info.expires_at:.3f}, but {last:.3f} was published before")
        keys = dict.fromkeys(segment_keys(info.model, info.span), info.peer_id)
        if info.state in (PeerState.JOINING, PeerState.READY):
            keys[MODELS_KEY] = model_subkey(info.model)
        await self._store(info, keys)

    async def withdraw(self, info: PeerInfo) -> None:
        last = max(self._last_expiry.get(info.peer_id, 0.0), self._clock.wall())
        keys = dict.fromkeys(segment_keys(info.model, info.span), info.peer_id)
        await self._store(farewell(info, last), keys)

    async def models(self) -> tuple[ModelRef, ...]:
        found = await self._records([MODELS_KEY])
        models = {info.model for subkey, info in found if model_subkey(info.model) == subkey}
        return tuple(sorted(models, key=lambda m: (m.name, m.fingerprint)))

    async def view(self, model: ModelRef) -> SwarmView:
        found = await self._records(segment_keys(model, Span(0, model.num_blocks)))
        infos = [info for subkey, info in found if info.peer_id == subkey]
        return SwarmView.of(model, infos, self._clock.wall())

    async def close(self) -> None:
        self._closed = True

    async def _store(self, info: PeerInfo, keys: Mapping[str, str]) -> None:
        self._check_open()
        record = encode_record(info, self._clock.wall())
        self._last_expiry[info.peer_id] = info.expires_at  # first: a store that fails half-way counts as published
        if not await self._put(keys, record, info.expires_at):
            raise SwarmUnreachable(f"the swarm refused the record of {info}: it holds one with a later expiry")

    async def _records(self, keys: Collection[str]) -> list[tuple[str, PeerInfo]]:
        self._check_open()
        found = await self._get(keys)
        now = self._clock.wall()
        records: list[tuple[str, PeerInfo]] = []
        for key, stored in found.items():
            for subkey, (value, expires_at) in stored.items():
                try:
                    records.append((subkey, decode_record(value, expires_at, now)))
                except BadRequest as error:
                    log.debug("dropped a record under %s, %s: %s", key, subkey[:40], error)
        return records

    def _check_open(self) -> None:
        if self._closed:
            raise SwarmUnreachable("this directory is closed")
