"""Desk: all that a request may need, in one place, built once: config, models, limits, the gate, metrics, the clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import cast

from starlette.requests import Request

from client.deadline import in_time
from gateway.config import GatewayConfig
from gateway.errors import ApiError
from gateway.gate import Gate
from gateway.generation import Generation
from gateway.keys import Key, Keyring, read_keys
from gateway.limits import Allowance
from gateway.metrics import Metrics
from gateway.models import Models
from swarm.clock import Clock
from swarm.errors import UsageError

ABORTED_S = 5.0  # for what was aborted to say so to its readers

log = logging.getLogger("gateway.desk")


class Desk:
    """``draining`` is set once and for ever: new requests are then refused by ``gateway.porch``."""

    def __init__(self, config: GatewayConfig, models: Models, keyring: Keyring, version: str, clock: Clock):
        self.config, self.models, self.keyring, self.version, self.clock = config, models, keyring, version, clock
        self.started_at = int(clock.wall())
        self.gate = Gate(config.max_running, config.max_queue, config.queue_timeout_s, clock)
        self.metrics = Metrics(version, models.named)
        self.metrics.watch(lambda: self.gate.waiting, lambda: self.gate.running)
        self.draining = False
        self._allowance = Allowance(clock)
        self._generations: set[Generation] = set()

    def admit(self, request: Request) -> AbstractContextManager[None]:
        """What the caller's limits say to one more request. Raises ApiError 429 when entered."""
        key = cast(Key | None, request.state.key)
        if key is not None:
            return self._allowance.admit(f"key {key.name}", key.limits)
        host = request.client.host if request.client is not None else "unknown"
        return self._allowance.admit(f"host {host}", self.config.limits)

    def renew_keys(self, environ: Mapping[str, str]) -> bool:
        """Read the keys again, for requests from now on. Where they cannot be read the old ones stay, and that is said.

        A gateway never changes between having keys and having none: an emptied file must not open it to everybody.
        """
        try:
            keyring = read_keys(self.config.keys, environ, self.config.limits)
        except UsageError as error:
            log.error("the keys stay as they were: %s", error)
            return False
        if bool(keyring) != bool(self.keyring):
            log.error("the keys stay as they were: a gateway is started with keys or without")
            return False
        self.keyring = keyring
        log.info("%d keys were read again", len(keyring.keys))
        return True

    @contextmanager
    def running(self, generation: Generation) -> Generator[None]:
        """While it lasts, ``drain`` knows of it."""
        self._generations.add(generation)
        try:
            yield
        finally:
            self._generations.discard(generation)

    async def drain(self) -> bool:
        """No new requests; those that run finish, up to ``drain_s``, and are then given up. Whether all finished."""
        self.draining = True
        if await in_time(self.clock, self.gate.empty(), self.config.drain_s):
            return True
        for generation in list(self._generations):
            generation.abort(ApiError(503, "the gateway is shutting down", code="draining", retry_after_s=1.0))
        await asyncio.sleep(0)
        await in_time(self.clock, self.gate.empty(), ABORTED_S)
        return False
