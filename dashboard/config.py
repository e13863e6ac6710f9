"""DashboardConfig: every choice and every bound of a dashboard, checked when built. Knows no HTTP."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from dashboard.history import default_file
from swarm.address import Address, JoinAddress
from swarm.errors import UsageError

NO_HISTORY = "none"


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """Also what a gateway needs to show one."""

    listen: Address = field(default_factory=lambda: Address("127.0.0.1", 8080))
    join: tuple[str, ...] = ()
    public_join: tuple[str, ...] = ()  # what newcomers are told to join through; none: what names no machine's IP
    models: tuple[str, ...] = ()  # names or fingerprints; none: whatever the swarm serves
    history: Path | None = field(default_factory=default_file)  # None: not on disk
    own_history: bool = False  # the operator named the file: it holds this swarm alone, and has to be usable

    try_it: bool = True
    try_tokens: int = 128  # of an answer, at most
    try_at_once: int = 4
    try_per_minute: float = 6.0  # of one caller
    requests_per_minute: float = 600.0  # of one caller, all routes of the API
    max_streams: int = 256  # event streams that are open
    max_streams_each: int = 16  # of one caller
    write_timeout_s: float = 10.0  # a reader that takes nothing for so long is gone

    log_level: str = "info"

    def __post_init__(self) -> None:
        for name in ("try_tokens", "try_at_once", "max_streams", "max_streams_each"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("try_per_minute", "requests_per_minute", "write_timeout_s"):
            value: float = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be a positive number, not {value}")
        if self.try_tokens > 1024:
            raise UsageError(f"try_tokens is {self.try_tokens}, expected at most 1024")
        for text in self.public_join:
            JoinAddress.parse(text)
