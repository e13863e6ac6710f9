from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peer.config import PeerConfig
from swarm.address import Address
from swarm.errors import UsageError
from swarm.span import Span


def test_the_defaults_are_for_one_machine():
    config = PeerConfig()
    assert (str(config.listen), config.join, config.profile, config.blocks) == ("127.0.0.1:0", (), "c8", None)
    assert config.threads >= 1


def test_the_cache_is_below_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert PeerConfig().cache == tmp_path / "shoal" / "spans"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threads": 0}, "--threads is 0, expected at least 1"),
        ({"threads": 2000}, "--threads is 2000"),
        ({"kv_tokens": -5}, "--kv-tokens is -5"),
        ({"max_sessions": 0}, "--max-sessions is 0"),
        ({"max_sessions": 9999}, "--max-sessions is 9999"),
        ({"profile": "int4"}, "--profile is 'int4', expected one of c8, f32"),
        ({"device": "gpu"}, "--device is 'gpu', expected cpu, cuda or cuda:N"),
        ({"device": "cuda", "profile": "f32"}, "--device cuda computes profile c8 alone"),
        ({"log_level": "loud"}, "--log-level is 'loud'"),
        ({"drain_s": -1.0}, "--drain-s is -1"),
        ({"drain_s": float("nan")}, "--drain-s is nan"),
        ({"lease_s": 0.0}, "--lease-s is 0"),
        ({"found_after_s": -1.0}, "--found-after-s is -1"),
        ({"found_after_s": float("nan")}, "--found-after-s is nan"),
        ({"lease_s": float("inf")}, "--lease-s is inf"),
        ({"max_links": 0}, "--max-links is 0"),
        ({"max_chunk_tokens": 0}, "--max-chunk-tokens is 0"),
        ({"announce": Address("0.0.0.0", 80)}, "cannot be dialled"),
        ({"blocks": Span(0, 4), "max_blocks": 2}, "--max-blocks is for the automatic choice"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_the_option_named(changes: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        PeerConfig(**changes)
