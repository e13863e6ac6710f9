"""GatewayConfig: every choice and every bound of a gateway, checked when built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dashboard.config import DashboardConfig
from gateway.aliases import Alias
from gateway.limits import Limits
from swarm.address import Address
from swarm.errors import UsageError


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    listen: Address = field(default_factory=lambda: Address("127.0.0.1", 8000))
    join: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # none: whatever the swarm serves
    aliases: Mapping[str, Alias] = field(default_factory=dict[str, Alias])
    profile: str | None = None
    keys: Path | None = None
    limits: Limits = field(
        default_factory=Limits
    )  # of a key without its own, and of an address where there are no keys

    max_running: int = 64  # answers that are made at a time
    max_queue: int = 256  # requests that wait
    queue_timeout_s: float = 30.0
    request_timeout_s: float = 600.0  # an answer, from its place at the gate to its last token
    write_timeout_s: float = 60.0  # a reader that takes nothing for so long is gone
    body_timeout_s: float = 30.0  # a request, to be read
    drain_s: float = 30.0

    max_body_bytes: int = 4 << 20
    max_prompt_tokens: int | None = None  # None: as many as the model takes
    max_answers: int = 16  # of one request: prompts × n
    default_tokens: int = 1024  # of a chat that names no number

    dashboard: DashboardConfig | None = None  # None: none is shown

    log_level: str = "info"

    def __post_init__(self) -> None:
        for name in ("queue_timeout_s", "request_timeout_s", "write_timeout_s", "body_timeout_s", "drain_s"):
            value: float = getattr(self, name)
            if not (math.isfinite(value) and value >= 0) or (value == 0 and name != "drain_s"):
                raise UsageError(f"{name} must be a positive number of seconds, not {value}")
        for name in ("max_running", "max_body_bytes", "max_answers", "default_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_queue < 0:
            raise UsageError(f"max_queue must not be negative, but is {self.max_queue}")
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            raise UsageError(f"max_prompt_tokens must be at least 1, not {self.max_prompt_tokens}")
        taken = next((name for name in self.aliases if name in self.models), None)
        if taken is not None:
            raise UsageError(f"{taken!r} is both a model and an alias")
