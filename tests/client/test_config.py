"""Bounds are checked when the config is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.config import ClientConfig, default_assets_dir
from swarm.errors import UsageError


@pytest.mark.parametrize(
    "wrong",
    [
        {"step_timeout_s": 0}, {"patience_s": float("nan")}, {"dial_timeout_s": float("inf")}, {"max_concurrent": 0},
        {"prefill_chunk": 0}, {"journal_bytes": -1}, {"max_repairs": 0}, {"max_new_tokens": 0},
    ],
)  # fmt: skip
def test_a_bound_that_makes_no_sense_is_refused_by_name(wrong: dict):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ClientConfig(**wrong)


def test_a_frozen_peer_is_told_within_the_step_deadline():
    assert ClientConfig().probe_s == 2.0
    assert ClientConfig(step_timeout_s=1.0).probe_s == 0.5


def test_assets_go_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_assets_dir() == Path("/somewhere/shoal/assets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_assets_dir() == Path.home() / ".cache" / "shoal" / "assets"
