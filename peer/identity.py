"""Identity: the key that makes a Peer the same Peer after a restart. Knows files and the peer_id; signs nothing yet.

A directory holds ``peer.key`` (Ed25519, PEM, 0600), from which the peer_id follows, and ``p2p.key``, which the DHT
makes and which keeps the multiaddr the same. Without a directory there is a fresh key for every start, kept nowhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from swarm.errors import UsageError

PEER_KEY = "peer.key"
P2P_KEY = "p2p.key"
MAX_KEY_BYTES = 4096


@dataclass(slots=True)
class Identity:
    """Who this Peer is. ``close`` lets another process have the directory."""

    private_key: Ed25519PrivateKey
    directory: Path | None = None
    _lock: int | None = field(default=None, repr=False)

    @property
    def peer_id(self) -> str:
        """32 hex digits: the start of the SHA-256 of the raw public key."""
        public = self.private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return hashlib.sha256(public).hexdigest()[:32]

    @property
    def p2p_key_path(self) -> Path | None:
        """Where the DHT keeps its own key; None for an identity that is not kept."""
        return None if self.directory is None else self.directory / P2P_KEY

    def close(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def load_identity(directory: Path | None) -> Identity:
    """The identity in ``directory``, which is made with a new key when missing, and held until ``close``.

    Raises UsageError when the directory or the key cannot be used, or when another running Peer is using it: two Peers
    with one name would take turns at hiding each other.
    """
    if directory is None:
        return Identity(Ed25519PrivateKey.generate())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"cannot use {directory} as identity directory: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Identity(_load_or_make(directory / PEER_KEY), directory, lock)
    except BlockingIOError as error:
        os.close(lock)
        raise UsageError(
            f"another peer is running with identity {directory}; give this one its own directory"
        ) from error
    except OSError as error:
        os.close(lock)
        raise UsageError(f"cannot use the key in {directory}: {error.strerror}") from error
    except BaseException:
        os.close(lock)
        raise


def look_up_identity(directory: Path) -> Identity:
    """As ``load_identity``, but not held: to learn who a Peer is or will be, also while it runs."""
    if not (directory / PEER_KEY).exists():
        made = load_identity(directory)
        made.close()
        return made
    try:
        return Identity(_load_or_make(directory / PEER_KEY), directory)
    except OSError as error:
        raise UsageError(f"cannot use the key in {directory}: {error.strerror}") from error


def _load_or_make(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return key
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise UsageError(f"{path} can be read by others (mode {mode:o}); make it yours alone: chmod 600 {path}")
    with path.open("rb") as file:
        text = file.read(MAX_KEY_BYTES + 1)
    try:
        key = load_pem_private_key(text, password=None) if len(text) <= MAX_KEY_BYTES else None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # not PEM; encrypted; a kind unknown to cryptography
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 key in PEM; restore it, or remove it to become a new peer")
    return key


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and never readable by others."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
