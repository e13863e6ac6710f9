"""PeerConfig: everything a Peer is told, checked when built. Knows no models and no network."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from peer.log import LEVELS
from swarm.errors import UsageError
from swarm.span import Span

Profile = Literal["c8", "f32"]
PROFILES: tuple[Profile, ...] = ("c8", "f32")
DEFAULT_KV_TOKENS = 32768


@dataclass(frozen=True, slots=True)
class Address:
    """host:port. Port 0 means any free one; an IPv6 host is written in brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, what: str) -> Address:
        """``what`` is the option that it came from. Raises UsageError."""
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):(\d{1,5})", text.strip())
        if not found or int(found[3]) > 65535:
            raise UsageError(f"{what} {text[:80]!r} is not an address; write host:port, for example 127.0.0.1:31330")
        return cls(found[1] or found[2], int(found[3]))

    @property
    def anywhere(self) -> bool:
        """Whether it stands for all interfaces, so that nobody can dial it."""
        return self.host in ("0.0.0.0", "::", "::0")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def default_cache() -> Path:
    """``~/.cache/shoal/spans``, or below $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal" / "spans"


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """Defaults just work on one machine. None: chosen when it is known what there is to choose from."""

    model: str | None = None  # a directory or a Hub id; None: the sample model
    revision: str | None = None
    blocks: Span | None = None  # None: what the swarm lacks most
    max_blocks: int | None = None  # of that choice; None: what fits in half of the free memory
    listen: Address = Address("127.0.0.1", 0)
    announce: Address | None = None  # how others reach it; port 0: the one listened on
    join: tuple[str, ...] = ()
    dht_listen: Address | None = None  # None: any port of the host that ``listen`` names
    kv_tokens: int | None = None  # None: DEFAULT_KV_TOKENS, or what fits in a quarter of the free memory
    max_sessions: int = 64
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    profile: Profile = "c8"
    identity: Path | None = None  # None: a fresh key for every start
    cache: Path = field(default_factory=default_cache)
    http: Address | None = None
    log_level: str = "info"
    drain_s: float = 10.0
    max_links: int = 256
    max_chunk_tokens: int = 256
    lease_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_blocks", "kv_tokens", "max_sessions", "threads", "max_links", "max_chunk_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}, expected at least 1")
        if self.max_sessions > 4096:
            raise UsageError(f"--max-sessions is {self.max_sessions}, expected at most 4096")
        if self.threads > 1024:
            raise UsageError(f"--threads is {self.threads}, expected at most 1024")
        if self.profile not in PROFILES:
            raise UsageError(f"--profile is {self.profile!r}, expected one of {', '.join(PROFILES)}")
        if self.log_level not in LEVELS:
            raise UsageError(f"--log-level is {self.log_level!r}, expected one of {', '.join(LEVELS)}")
        if not 0 <= self.drain_s <= 86400 or self.lease_s <= 0:
            raise UsageError(f"--drain-s is {self.drain_s:g}, expected 0 to 86400 seconds")
        if self.announce is not None and self.announce.anywhere:
            raise UsageError(f"--announce {self.announce} cannot be dialled; name this machine's own address")
        if self.blocks is not None and self.max_blocks is not None:
            raise UsageError("--max-blocks is for the automatic choice; leave it out when --blocks is given")
