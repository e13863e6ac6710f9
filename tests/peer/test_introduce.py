from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dht.node import ensure_identity
from peer.identity import load_identity
from peer.introduce import main
from swarm.address import read_swarm


def test_keys_are_made_once_and_all_addresses_go_into_one_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = [
        f"{tmp_path}/a=peer-a.example.org:31331",
        f"{tmp_path}/b=10.0.0.2:31331",
        "--write",
        f"{tmp_path}/swarm",
    ]
    assert main(arguments) == 0
    first = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(arguments) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == first
    a, b = first
    assert a["join"] == [f"/dns4/peer-a.example.org/tcp/31331/p2p/{a['p2p_id']}"]
    assert b["join"] == [f"/ip4/10.0.0.2/tcp/31331/p2p/{b['p2p_id']}"]
    assert read_swarm(f"@{tmp_path}/swarm") == (*a["join"], *b["join"])
    assert a["peer_id"] != b["peer_id"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()}
    assert modes == {"peer.key": 0o600, "p2p.key": modes["p2p.key"]} and not modes["p2p.key"] & 0o022


def test_what_it_says_is_what_the_peer_will_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([f"{tmp_path}/a"]) == 0
    said = json.loads(capsys.readouterr().out)
    identity = load_identity(tmp_path / "a")
    assert identity.peer_id == said["peer_id"] and said["join"] == []
    assert identity.p2p_key_path is not None
    assert ensure_identity(identity.p2p_key_path) == said["p2p_id"]
    assert main([f"{tmp_path}/a"]) == 0  # also while a peer holds it
    assert json.loads(capsys.readouterr().out) == said
    identity.close()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required"),
        (["a", "--write", "swarm"], "--write wants addresses: name them, DIR=HOST:PORT"),
        (["a=here"], "'here' is not an address"),
        (["a=0.0.0.0:31331"], "0.0.0.0:31331 cannot be dialled"),
        (["a=host:0"], "host:0 cannot be dialled"),
        (["a=host:1", "--write", "missing/swarm"], "cannot write missing/swarm: No such file"),
        (["/dev/null/a"], "cannot use /dev/null/a as identity directory"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("shoal: ") and said.count("\n") == 1 and expected in said
