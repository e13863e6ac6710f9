"""PeerConfig: everything a Peer is told, checked when built. Knows no models and no network."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from peer.log import LEVELS
from proto.limits import LEAST_CHUNK_TOKENS
from swarm.address import Address
from swarm.errors import UsageError
from swarm.peerinfo import check_name
from swarm.profile import PROFILES, Profile
from swarm.span import Span

DEFAULT_KV_TOKENS = 32768
LOOPBACK = Address("127.0.0.1", 0)


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
    listen: Address = LOOPBACK
    announce: Address | None = None  # how others reach it; port 0: the one listened on
    join: tuple[str, ...] = ()
    found_after_s: float | None = None  # where nobody at ``join`` answers for so long, begin a swarm; None: give up
    name: str = ""  # what people call it
    with_stdin: bool = False  # whether it leaves when standard input is closed
    public_address: bool = False  # whether dashboards may show its address
    dht_listen: Address | None = None  # None: any port of the host that ``listen`` names
    kv_tokens: int | None = None  # None: DEFAULT_KV_TOKENS, or what fits in a quarter of the free memory
    max_sessions: int = 64
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    profile: Profile = "c8"
    device: str = "cpu"  # or "cuda", "cuda:1": what computes profile c8
    identity: Path | None = None  # None: a fresh key for every start
    cache: Path = field(default_factory=default_cache)
    http: Address | None = None
    log_level: str = "info"
    drain_s: float = 10.0
    max_links: int = 256
    max_chunk_tokens: int = 256
    lease_s: float = 60.0
    overcommit: float = 1.0  # times its KV tokens that it promises: Sessions that use less than they asked for
    swap_bytes: int = 1 << 30  # of the host's memory for Sessions that then have to move out; more goes to files
    journal_bytes: int = 256 << 20  # of memory for outputs that are kept for repairs; more goes to files …
    journal_disk_bytes: int = 4 << 30  # … up to so much, then the longest are forgotten

    def __post_init__(self) -> None:
        for name in ("max_blocks", "kv_tokens", "max_sessions", "threads", "max_links", "max_chunk_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}, expected at least 1")
        if self.max_chunk_tokens < LEAST_CHUNK_TOKENS:
            raise UsageError(f"--max-chunk-tokens is {self.max_chunk_tokens}, expected at least {LEAST_CHUNK_TOKENS}")
        if self.max_sessions > 4096:
            raise UsageError(f"--max-sessions is {self.max_sessions}, expected at most 4096")
        if self.threads > 1024:
            raise UsageError(f"--threads is {self.threads}, expected at most 1024")
        if self.profile not in PROFILES:
            raise UsageError(f"--profile is {self.profile!r}, expected one of {', '.join(PROFILES)}")
        if self.device != "cpu" and self.device.split(":")[0] != "cuda":
            raise UsageError(f"--device is {self.device!r}, expected cpu, cuda or cuda:N")
        if self.device != "cpu" and self.profile != "c8":
            raise UsageError(f"--device {self.device} computes profile c8 alone; leave out --profile {self.profile}")
        check_name(self.name)
        if self.log_level not in LEVELS:
            raise UsageError(f"--log-level is {self.log_level!r}, expected one of {', '.join(LEVELS)}")
        if not 0 <= self.drain_s <= 86400:
            raise UsageError(f"--drain-s is {self.drain_s:g}, expected 0 to 86400 seconds")
        if self.found_after_s is not None and not 0 <= self.found_after_s <= 86400:
            raise UsageError(f"--found-after-s is {self.found_after_s:g}, expected 0 to 86400 seconds")
        if not 0 < self.lease_s <= 86400:
            raise UsageError(f"--lease-s is {self.lease_s:g}, expected more than 0 and at most 86400 seconds")
        if not 1.0 <= self.overcommit <= 64.0:
            raise UsageError(f"--overcommit is {self.overcommit:g}, expected 1 to 64")
        for name in ("swap_bytes", "journal_bytes", "journal_disk_bytes"):
            if (value := getattr(self, name)) < 0:
                option = name.replace("_bytes", "-mb").replace("_", "-")
                raise UsageError(f"--{option} is {value >> 20}, expected at least 0")
        if self.announce is not None and self.announce.anywhere:
            raise UsageError(f"--announce {self.announce} cannot be dialled; name this machine's own address")
        if self.blocks is not None and self.max_blocks is not None:
            raise UsageError("--max-blocks is for the automatic choice; leave it out when --blocks is given")
