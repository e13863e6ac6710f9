from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from peer.identity import load_identity
from swarm.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def pem(key: object, password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def keep(directory: Path, content: bytes, mode: int = 0o600) -> None:
    (directory / "peer.key").write_bytes(content)
    (directory / "peer.key").chmod(mode)


def test_a_new_identity_is_made_private_and_stays_the_same(tmp_path: Path):
    directory = tmp_path / "deep" / "identity"
    first = load_identity(directory)
    first.close()
    again = load_identity(directory)
    assert again.peer_id == first.peer_id
    assert (directory / "peer.key").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in directory.iterdir()] == ["peer.key"]
    again.close()


def test_the_peer_id_follows_from_the_public_key():
    identity = load_identity(None)
    raw = identity.private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert identity.peer_id == hashlib.sha256(raw).digest()[:16].hex()


def test_without_a_directory_every_start_is_another_peer_and_nothing_is_kept():
    one, other = load_identity(None), load_identity(None)
    assert one.peer_id != other.peer_id
    assert one.p2p_key_path is None
    one.close()


def test_the_dht_keeps_its_key_in_the_same_directory(tmp_path: Path):
    identity = load_identity(tmp_path)
    assert identity.p2p_key_path == tmp_path / "p2p.key"
    identity.close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(Ed25519PrivateKey.generate())[:60],
        pem(Ed25519PrivateKey.generate(), b"secret"),
        pem(generate_private_key(SECP256R1())),
        pem(Ed25519PrivateKey.generate()) * 100,
    ],
    ids=["empty", "text", "no key", "cut short", "encrypted", "another kind", "too long"],
)
def test_a_damaged_key_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path, content: bytes):
    keep(tmp_path, content)
    with pytest.raises(UsageError, match=r"is not an Ed25519 key in PEM; restore it, or remove it") as caught:
        load_identity(tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "peer.key").read_bytes() == content


def test_a_key_that_others_can_read_is_refused_with_the_cure(tmp_path: Path):
    keep(tmp_path, pem(Ed25519PrivateKey.generate()), 0o644)
    with pytest.raises(UsageError, match=r"chmod 600"):
        load_identity(tmp_path)


def test_a_directory_that_cannot_be_one_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="cannot use"):
            load_identity(path)


def test_a_key_that_is_a_directory_is_refused(tmp_path: Path):
    (tmp_path / "peer.key").mkdir(mode=0o700)
    with pytest.raises(UsageError, match="cannot use the key"):
        load_identity(tmp_path)


def test_two_running_peers_cannot_share_an_identity(tmp_path: Path):
    first = load_identity(tmp_path)
    with pytest.raises(UsageError, match="another peer is running with identity"):
        load_identity(tmp_path)
    first.close()
    load_identity(tmp_path).close()


def test_a_refused_directory_is_free_again(tmp_path: Path):
    keep(tmp_path, b"hello")
    with pytest.raises(UsageError, match="PEM"):
        load_identity(tmp_path)
    keep(tmp_path, pem(Ed25519PrivateKey.generate()))
    load_identity(tmp_path).close()


def test_a_killed_peer_does_not_hold_its_identity(tmp_path: Path):
    code = "\n".join(
        [
            "import os, sys",
            "from pathlib import Path",
            "from peer.identity import load_identity",
            "identity = load_identity(Path(sys.argv[1]))",
            "print(identity.peer_id, flush=True)",
            "os.kill(os.getpid(), 9)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    identity = load_identity(tmp_path)
    assert identity.peer_id == done.stdout.strip()
    identity.close()


def test_a_half_written_new_key_of_an_earlier_crash_is_no_obstacle(tmp_path: Path):
    (tmp_path / "peer.key.new").write_bytes(b"half")
    load_identity(tmp_path).close()
    assert [p.name for p in tmp_path.iterdir()] == ["peer.key"]
