"""The in-process twin of the DHT: same records, same rules, no network. For tests and simulations."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dht.directory import RecordDirectory, Stored
from swarm.clock import Clock


class MemoryStore:
    """What the DHT of one imaginary swarm holds: key → subkey → (value, expiry)."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self.held: dict[str, dict[str, tuple[bytes, float]]] = {}

    def put(self, key: str, subkey: str, value: bytes, expires_at: float) -> bool:
        """The rule of a DHT: the later expiry wins, and an equal one is not later."""
        if expires_at <= self.clock.wall():
            return False
        of_key = self.held.setdefault(key, {})
        known = of_key.get(subkey)
        if known is not None and known[1] >= expires_at:
            return False
        of_key[subkey] = (value, expires_at)
        return True

    def get(self, key: str) -> Stored:
        living = {s: (v, at) for s, (v, at) in self.held.get(key, {}).items() if at > self.clock.wall()}
        self.held[key] = living
        return dict(living)


class MemoryDirectory(RecordDirectory):
    """One process's access to a MemoryStore. All that share the store see each other."""

    def __init__(self, store: MemoryStore, clock: Clock | None = None):
        super().__init__(clock or store.clock)
        self._store_of_swarm = store

    @property
    def addresses(self) -> tuple[str, ...]:
        return ("/memory",)

    async def _put(self, keys: Mapping[str, str], value: bytes, expires_at: float) -> bool:
        accepted = [self._store_of_swarm.put(key, subkey, value, expires_at) for key, subkey in keys.items()]
        return any(accepted)

    async def _get(self, keys: Collection[str]) -> Mapping[str, Stored]:
        return {key: self._store_of_swarm.get(key) for key in keys}
