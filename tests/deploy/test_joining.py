"""What compose and Kubernetes build on, with real peers: one list for all, keys that stay, any order of starting."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from peer.introduce import main as introduce
from tests.support.processes import peer_process

pytestmark = pytest.mark.swarm


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


@pytest.mark.timeout(240)
def test_the_first_of_a_list_begins_alone_and_joins_the_others_when_it_comes_back(tmp_path: Path):
    ports = dict(zip("ab", free_ports(2), strict=True))
    wanted = [f"{tmp_path}/{name}=localhost:{port}" for name, port in ports.items()]
    assert introduce([*wanted, "--write", f"{tmp_path}/swarm"]) == 0
    listed = (tmp_path / "swarm").read_text().split()

    def options(name: str, *more: str) -> list[str]:
        return [
            f"--identity={tmp_path}/{name}", f"--dht-listen=127.0.0.1:{ports[name]}", f"--join=@{tmp_path}/swarm",
            "--announce=localhost:0", "--blocks=0:12", "--threads=1", f"--cache={tmp_path}/cache", *more,
        ]  # fmt: skip

    with peer_process(*options("a", "--found-after-s=0.5")) as a:
        assert "beginning without them" in a.stderr
        first = a.ready
        assert first["join"] == listed[:1]
        with peer_process(*options("b")) as b:  # had a not begun, this one would give up
            assert a.terminate() == 0
            with peer_process(*options("a")) as again:
                assert "beginning without them" not in again.stderr
                assert (again.ready["peer_id"], again.ready["join"]) == (first["peer_id"], first["join"])
            assert b.terminate() == 0
