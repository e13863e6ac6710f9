"""Keys are read from both places, compared by digest, and never shown."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest

from gateway.keys import KEYS_VARIABLE, Keyring, bearer, read_keys
from gateway.limits import Limits
from swarm.errors import UsageError

DEFAULT = Limits(requests_per_minute=60)


def read(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Keyring:
    path = tmp_path / "keys"
    path.write_text(text)
    return read_keys(path, environ or {}, DEFAULT)


def test_a_key_is_found_by_what_it_is_and_nothing_like_it(tmp_path: Path):
    ring = read(tmp_path, "# ours\nann sk-ann-secret rpm=5 concurrent=2\n\nbob sk-bob-secret # his\n")
    ann, bob = ring.find("sk-ann-secret"), ring.find("sk-bob-secret")
    assert ann is not None and (ann.name, ann.limits) == ("ann", Limits(5, 2))
    assert bob is not None and (bob.name, bob.limits) == ("bob", DEFAULT)
    assert all(ring.find(wrong) is None for wrong in ("", "sk-ann-secre", "sk-ann-secret ", "ann", "\ud800"))


def test_every_key_is_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compared: list[int] = []
    real = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return real(one, other)

    ring = read(tmp_path, "a secret-a-1\nb secret-b-1\nc secret-c-1")
    monkeypatch.setattr("gateway.keys.hmac.compare_digest", counted)
    ring.find("secret-a-1"), ring.find("nobody's")
    assert compared == [32] * 6, "the first hit must not end the search"


def test_the_environment_holds_keys_too():
    ring = read_keys(None, {KEYS_VARIABLE: "ann sk-ann-secret,sk-without-name"}, DEFAULT)
    nameless = ring.find("sk-without-name")
    assert ring.find("sk-ann-secret") and nameless is not None and len(nameless.name) == 8
    assert not read_keys(None, {}, DEFAULT)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no key"), ("ann short", "at least 8"), ("ann sk-secret-1 x y", "line 1"),
        ("ann sk-secret-1 rpm=often", "rpm must be a number"), ("ann sk-secret-1\nann sk-secret-2", "called 'ann'"),
    ],
)  # fmt: skip
def test_mistakes_name_the_line_and_never_the_key(tmp_path: Path, text: str, says: str):
    with pytest.raises(UsageError, match=says) as error:
        read(tmp_path, text)
    assert "sk-secret" not in str(error.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(tmp_path / "none", {}, DEFAULT)


@pytest.mark.parametrize(
    ("header", "key"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer", None), ("", None), (None, None)],
)
def test_a_bearer_token_is_read(header: str | None, key: str | None):
    assert bearer(header) == key
