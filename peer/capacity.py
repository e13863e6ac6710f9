"""How much of a model fits this machine. Estimates from the configuration alone, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from model.config import ModelConfig
from peer.config import DEFAULT_KV_TOKENS
from swarm.errors import UsageError

ASSUMED_FREE_BYTES = 4 << 30  # where the system does not say

_WEIGHT_BYTES = {"c8": 1.07, "f32": 4.0}  # c8: one byte and its share of the scales
_KV_BYTES = {"c8": 2, "f32": 4}


def free_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that can be had now: the machine's, or less where a container's limit is lower."""
    free = ASSUMED_FREE_BYTES
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) << 10
        limit = (cgroup / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, max(0, int(limit) - int((cgroup / "memory.current").read_text())))
    except (OSError, ValueError, IndexError):
        pass  # another system, or no container: what was found so far holds
    return free


def block_bytes(config: ModelConfig, profile: str) -> int:
    """About how many bytes one Block's weights take."""
    attention = 2 * config.hidden_size * (config.q_size + config.kv_size)
    gated = 3 * config.hidden_size * config.intermediate_size
    return int((attention + gated) * _WEIGHT_BYTES[profile])


def kv_bytes(config: ModelConfig, profile: str, num_blocks: int) -> int:
    """Bytes of KV cache that one token takes in so many Blocks."""
    return 2 * config.kv_size * _KV_BYTES[profile] * num_blocks


def blocks_that_fit(config: ModelConfig, profile: str, free: int) -> int:
    """How many Blocks take half of the free memory; at least 1."""
    return max(1, min(config.num_blocks, free // 2 // block_bytes(config, profile)))


def kv_tokens_that_fit(config: ModelConfig, profile: str, num_blocks: int, asked: int | None, free: int) -> int:
    """``asked``, if the memory is there; else DEFAULT_KV_TOKENS or what takes a quarter of it, at least 1.

    Raises UsageError where what is asked for cannot be had: a promised Page must not fail when it is first written.
    """
    token = kv_bytes(config, profile, num_blocks)
    if asked is None:
        return max(1, min(DEFAULT_KV_TOKENS, free // 4 // token))
    if asked * token > free:
        needed = f"{asked * token / 2**30:.1f} GiB for {num_blocks} blocks, {free / 2**30:.1f} GiB are free"
        raise UsageError(f"--kv-tokens {asked} takes {needed}; up to {free // token} fit")
    return asked
