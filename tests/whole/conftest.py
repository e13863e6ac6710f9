"""Whole-path fixtures: real peer processes on free ports, always ended."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from client import Client
from peer.local import LocalPeer, LocalSwarm

PROMPT = "def parse_args(self, args=None):\n"
COMMON = ("--threads", "1", "--log-level", "warning", "--kv-tokens", "8192")


class Roster:
    """Peers by their Span; a lost one can be brought back, thawed or started anew."""

    def __init__(self, swarm: LocalSwarm, spans: Sequence[str]):
        self.swarm = swarm
        self.peers: dict[str, LocalPeer] = dict(zip(spans, swarm.start(spans), strict=True))

    def ids(self, *spans: str) -> tuple[str, ...]:
        return tuple(self.peers[span].peer_id for span in spans)

    def revive(self, span: str) -> None:
        lost = self.peers[span]
        if lost.process.poll() is None:
            lost.thaw()
            return
        lost.end()
        self.swarm.peers.remove(lost)
        (self.peers[span],) = self.swarm.start([span])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "whole" in item.path.parts:
            item.add_marker(pytest.mark.swarm)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One quantised-Span cache for all peers of the run, none of the user's."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def alone() -> Iterator[Client]:
    """A client of one peer that serves everything: the oracle for what a swarm must generate."""
    with LocalSwarm(*COMMON) as swarm:
        swarm.start(["0:24"])
        with Client(swarm=swarm.join) as client:
            yield client
