from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peer.config import Address, PeerConfig
from swarm.errors import UsageError
from swarm.span import Span


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:0", "127.0.0.1", 0), ("peer.example.org:443", "peer.example.org", 443), ("[::1]:7", "::1", 7)],
)
def test_an_address_is_read_and_written_the_same(text: str, host: str, port: int):
    address = Address.parse(text, "--listen")
    assert (address.host, address.port, str(address)) == (host, port, text)


@pytest.mark.parametrize("text", ["", "8080", "localhost", "::1:80", "a:b", "h:99999", "http://h:80", "h:-1", "h h:1"])
def test_what_is_no_address_is_refused_and_the_option_named(text: str):
    with pytest.raises(UsageError, match=r"--listen .* write host:port"):
        Address.parse(text, "--listen")


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
        ({"log_level": "loud"}, "--log-level is 'loud'"),
        ({"drain_s": -1.0}, "--drain-s is -1"),
        ({"drain_s": float("nan")}, "--drain-s is nan"),
        ({"announce": Address("0.0.0.0", 80)}, "cannot be dialled"),
        ({"blocks": Span(0, 4), "max_blocks": 2}, "--max-blocks is for the automatic choice"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_the_option_named(changes: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        PeerConfig(**changes)
