"""How much of a model fits this machine. Estimates from the configuration alone, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from model.config import ModelConfig
from peer.config import DEFAULT_KV_TOKENS
from swarm.errors import UsageError
from swarm.profile import Profile
from swarm.span import Span

ASSUMED_FREE_BYTES = 4 << 30  # where the system does not say

_WEIGHT_BYTES: dict[Profile, float] = {"c8": 1.03125, "f32": 4.0}  # c8: a byte, and two for 64


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


def block_bytes(config: ModelConfig, profile: Profile) -> int:
    """About how many bytes one Block's weights take."""
    attention = 2 * config.hidden_size * (config.q_size + config.kv_size)
    gated = 3 * config.hidden_size * config.intermediate_size
    return int((attention + gated) * _WEIGHT_BYTES[profile])


def span_bytes(config: ModelConfig, profile: Profile, span: Span) -> int:
    """About how many bytes the weights of ``span`` take, those of the Ends that touch it included."""
    first, last = span.start == 0, span.end == config.num_blocks
    matrices = 1 if first and last and config.tied else first + last
    ends = matrices * config.vocab_size * config.hidden_size
    return len(span) * block_bytes(config, profile) + int(ends * _WEIGHT_BYTES[profile])


def blocks_that_fit(config: ModelConfig, profile: Profile, free: int) -> int:
    """How many Blocks, with both Ends beside them, take half of the free memory; at least 1."""
    block, all_blocks = block_bytes(config, profile), Span(0, config.num_blocks)
    ends = span_bytes(config, profile, all_blocks) - config.num_blocks * block
    return max(1, min(config.num_blocks, (free // 2 - ends) // block))


def kv_tokens_that_fit(config: ModelConfig, profile: Profile, span: Span, asked: int | None, free: int) -> int:
    """``asked``, if the memory is there once the weights are loaded; else DEFAULT_KV_TOKENS or what takes a quarter of
    the free memory, at least 1.

    Raises UsageError where what is asked for cannot be had: a promised Page must not fail when it is first written.
    """
    from model.kv import kv_bytes_per_token  # imports torch

    token, weights = kv_bytes_per_token(config, span, profile), span_bytes(config, profile, span)
    left = max(0, free - weights)
    if asked is None:
        return max(1, min(DEFAULT_KV_TOKENS, min(free // 4, left) // token))
    if asked * token > left:
        needed = f"{asked * token / 2**30:.1f} GiB for blocks {span}"
        there = f"{free / 2**30:.1f} GiB are free and the weights take {weights / 2**30:.1f} of them"
        raise UsageError(f"--kv-tokens {asked} takes {needed}; {there}; up to {left // token} fit")
    return asked
