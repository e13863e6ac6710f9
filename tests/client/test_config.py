"""Bounds are checked when the config is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.config import ClientConfig, default_assets_dir
from proto.limits import MAX_DRAFTS
from swarm.errors import UsageError

COMPLAINTS = {"prefer": "a peer id has 32 hex digits"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"suspect_after_s": 0}, {"probe_timeout_s": -1}, {"busy_timeout_s": 0}, {"open_timeout_s": 0},
        {"patience_s": float("nan")}, {"dial_timeout_s": float("inf")}, {"max_concurrent": 0},
        {"prefill_chunk": 0}, {"journal_bytes": -1}, {"max_repairs": 0}, {"max_new_tokens": 0},
        {"shape": "cube"}, {"draft_tokens": -1}, {"draft_tokens": MAX_DRAFTS + 1}, {"prefer": ("me",)},
    ],
)  # fmt: skip
def test_a_bound_that_makes_no_sense_is_refused_by_name(wrong: dict):
    with pytest.raises(UsageError, match=COMPLAINTS.get(next(iter(wrong)), next(iter(wrong)))):
        ClientConfig(**wrong)


def test_a_frozen_peer_is_told_within_three_seconds():
    assert ClientConfig().suspect_after_s + ClientConfig().probe_timeout_s <= 3.0


def test_assets_go_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_assets_dir() == Path("/somewhere/shoal/assets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_assets_dir() == Path.home() / ".cache" / "shoal" / "assets"
