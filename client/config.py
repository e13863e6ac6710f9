"""ClientConfig: every choice and every bound of a client, checked when built. Knows nobody else's options."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from proto.messages import WireDType
from swarm.errors import UsageError


def default_assets_dir() -> Path:
    """``~/.cache/shoal/assets``, or below $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal" / "assets"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The defaults suit a swarm across the internet; tests and local swarms lower the deadlines."""

    profile: str | None = None  # None: c8 where it covers the model, else whatever does
    wire: WireDType = WireDType.F32
    prefer: tuple[str, ...] = ()  # peer_ids, or how they begin, that Routes take where they can, whatever the latency
    max_concurrent: int = 64  # Sessions; further ones wait for their turn
    max_new_tokens: int = 256  # where the caller names no number
    prefill_chunk: int = 256  # tokens; a Hop may ask for smaller ones

    connect_timeout_s: float = 60.0  # all of it: to join, to find the model, to learn what it is
    dial_timeout_s: float = 5.0
    open_timeout_s: float = 5.0
    step_timeout_s: float = 5.0  # of one Chunk at one Hop …
    token_timeout_s: float = 0.05  # … and this much more for every token of the Chunk
    busy_timeout_s: float = 10.0  # a Hop that is late but still answers Info is busy, not frozen: it gets this long,
    # or several times what it needs by its own figures
    probe_timeout_s: float = 2.0  # for that Info; at most half of step_timeout_s, and its last part

    patience_s: float = 10.0  # how long Blocks may be missing before a Session gives up
    admission_timeout_s: float = 120.0  # how long a Session that holds nothing waits for free Seats
    max_repairs: int = 32  # Hops that may fail one Session between two of its tokens

    journal_bytes: int = 512 << 20  # hidden states kept for replay, of all Sessions together
    assets_dir: Path = field(default_factory=default_assets_dir)
    assets_bytes: int = 256 << 20  # on disk; the longest unused files go first

    @property
    def probe_s(self) -> float:
        """The part of a step's deadline that is left for asking whether the peer still lives."""
        return min(self.probe_timeout_s, self.step_timeout_s / 2)

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout_s", "dial_timeout_s", "open_timeout_s", "step_timeout_s", "token_timeout_s",
            "busy_timeout_s", "probe_timeout_s", "patience_s", "admission_timeout_s",
        ):  # fmt: skip
            value: float = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be a positive number of seconds, not {value}")
        for name in ("max_concurrent", "max_new_tokens", "prefill_chunk", "max_repairs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        for peer_id in self.prefer:
            if not re.fullmatch("[0-9a-f]{8,32}", peer_id):
                raise UsageError(f"a peer id has 32 hex digits, of which the first 8 will do, not {peer_id!r:.60}")
        if min(self.journal_bytes, self.assets_bytes) < 0:
            raise UsageError("journal_bytes and assets_bytes must not be negative")
