"""Keyring: who may use this gateway, from a file or the environment. Compares in constant time; keeps digests only.

One key a line: ``name key``, then what it may do if that is not the default: ``rpm=60 concurrent=4``. Names are for
logs and limits; a key alone on its line is called after its digest. ``#`` begins a comment.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.limits import Limits
from swarm.errors import UsageError

KEYS_VARIABLE = "SHOAL_API_KEYS"  # lines as in the file; a comma ends a line too
MIN_KEY_LETTERS = 8


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    digest: bytes  # SHA-256
    limits: Limits


class Keyring:
    """No keys: everybody may."""

    def __init__(self, keys: tuple[Key, ...] = ()):
        self.keys = keys

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, given: str) -> Key | None:
        """Whose key it is. Takes as long for a wrong key as for a right one: all are compared, by digest."""
        digest = hashlib.sha256(given.encode(errors="surrogatepass")).digest()
        found: Key | None = None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def bearer(authorization: str | None) -> str | None:
    """The key in an Authorization header."""
    scheme, _, key = (authorization or "").strip().partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def read_keys(path: Path | None, environ: Mapping[str, str], default: Limits) -> Keyring:
    """All keys of both places. Raises UsageError, which never shows a key."""
    lines = environ.get(KEYS_VARIABLE, "").replace(",", "\n").splitlines()
    where = [f"${KEYS_VARIABLE}"] * len(lines)
    if path is not None:
        try:
            of_file = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the keys in {path} cannot be read: {error!s:.200}") from None
        lines += of_file
        where += [f"{path}, line {number}" for number in range(1, len(of_file) + 1)]
    keys: list[Key] = []
    for line, place in zip(lines, where, strict=True):
        words = line.split("#")[0].split()
        if words:
            keys.append(_read(words, place, default))
    if path is not None and not keys:
        raise UsageError(f"there is no key in {path}; nobody could use this gateway")
    names = [key.name for key in keys]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two keys are called {twice!r}")
    return Keyring(tuple(keys))


def _read(words: list[str], place: str, default: Limits) -> Key:
    plain = [word for word in words if "=" not in word or word.split("=")[0] not in ("rpm", "concurrent")]
    limits = default
    for word in words:
        name, _, value = word.partition("=")
        if word in plain:
            continue
        try:
            limits = (
                replace(limits, requests_per_minute=float(value))
                if name == "rpm"
                else replace(limits, concurrent=int(value))
            )
        except ValueError:
            raise UsageError(f"{place}: {name} must be a number") from None
    if not 1 <= len(plain) <= 2 or len(plain[-1]) < MIN_KEY_LETTERS:
        raise UsageError(
            f"{place}: expected a name and a key of at least {MIN_KEY_LETTERS} letters, then rpm=, concurrent="
        )
    digest = hashlib.sha256(plain[-1].encode()).digest()
    return Key(plain[0] if len(plain) == 2 else digest.hex()[:8], digest, limits)
