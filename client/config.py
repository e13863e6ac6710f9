"""ClientConfig: every choice and every bound of a client, checked when built. Knows nobody else's options."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from proto.limits import LEAST_CHUNK_TOKENS, MAX_DRAFTS
from proto.messages import WireDType
from swarm.errors import UsageError

PathShape = Literal["ring", "chain", "star"]
SHAPES: tuple[PathShape, ...] = ("ring", "chain", "star")


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
    prefill_chunk: int = 128  # tokens; a Hop may ask for smaller ones
    shape: PathShape | None = None  # of the data path; None: the best there is, which is the ring
    draft_tokens: int = 0  # guesses a step, at most; 0: no speculation
    draft_model: Path | None = None  # a small model that guesses; None: by looking them up in prompt and answer
    ends: Literal["remote", "local"] = "remote"  # where embedding and Head are
    checkpoint: str | None = None  # for local Ends: a directory or a Hub id; None: what the swarm calls its model
    trace: bool = False  # Results say where the time went
    addresses: Mapping[str, str] = field(default_factory=dict[str, str])  # dial this instead of what is announced

    connect_timeout_s: float = 60.0  # all of it: to join, to find the model, to learn what it is
    dial_timeout_s: float = 2.5
    open_timeout_s: float = 2.5
    suspect_after_s: float = 0.75  # of silence: then every Hop is asked for its Info …
    probe_timeout_s: float = 1.25  # … and one that does not answer in this time is frozen
    busy_timeout_s: float = 10.0  # Hops that answer are busy: they get this long, or several times what they need by
    # their own figures

    patience_s: float = 10.0  # how long Blocks may be missing before a Session gives up
    admission_timeout_s: float = 120.0  # how long a Session that holds nothing waits for free Seats
    max_repairs: int = 32  # Hops that may fail one Session between two of its tokens

    journal_bytes: int = 512 << 20  # hidden states kept for replay, of all Sessions together
    assets_dir: Path = field(default_factory=default_assets_dir)
    assets_bytes: int = 256 << 20  # on disk; the longest unused files go first

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout_s", "dial_timeout_s", "open_timeout_s", "suspect_after_s", "probe_timeout_s",
            "busy_timeout_s", "patience_s", "admission_timeout_s",
        ):  # fmt: skip
            value: float = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be a positive number of seconds, not {value}")
        for name in ("max_concurrent", "max_new_tokens", "prefill_chunk", "max_repairs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.shape is not None and self.shape not in SHAPES:
            raise UsageError(f"shape must be one of {', '.join(SHAPES)}, not {self.shape!r:.60}")
        if self.ends not in ("remote", "local"):
            raise UsageError(f"ends must be remote or local, not {self.ends!r:.60}")
        if self.shape == "ring" and (self.ends == "local" or self.draft_model is not None):
            raise UsageError("a ring needs Ends and drafts at its peers; leave out the shape, or choose chain or star")
        if self.draft_model is not None and not self.draft_tokens:
            raise UsageError("a draft model guesses draft_tokens at a step; say how many, for example 8")
        if not 0 <= self.draft_tokens <= MAX_DRAFTS:
            raise UsageError(f"draft_tokens must lie in 0..{MAX_DRAFTS}, not {self.draft_tokens}")
        if self.prefill_chunk < LEAST_CHUNK_TOKENS:
            raise UsageError(f"prefill_chunk must be at least {LEAST_CHUNK_TOKENS}, not {self.prefill_chunk}")
        for peer_id in self.prefer:
            if not re.fullmatch("[0-9a-f]{8,32}", peer_id):
                raise UsageError(f"a peer id has 32 hex digits, of which the first 8 will do, not {peer_id!r:.60}")
        if min(self.journal_bytes, self.assets_bytes) < 0:
            raise UsageError("journal_bytes and assets_bytes must not be negative")
