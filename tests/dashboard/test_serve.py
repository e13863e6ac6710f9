"""The command itself, as a process over a real swarm: what it shows is true, and it leaves when told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from client import Client
from dashboard.serve import main
from peer.local import ROOT, LocalSwarm

MADDR = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"
HOSTILE = "<img src=x onerror=alert(1)>"
COMMON = ("--threads", "1", "--log-level", "warning", "--kv-tokens", "4096")


class Dashboard:
    """``python -m dashboard`` on a free port."""

    def __init__(self, join: list[str], *arguments: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dashboard", "--listen", "127.0.0.1:0", "--join", *join, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ}, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())
        self.http = httpx.Client(base_url=self.ready["http"], timeout=30)

    @property
    def swarm(self) -> dict[str, Any]:
        return self.http.get("/api/v1/swarm").json()

    def when(self, true: Callable[[dict[str, Any]], bool], within_s: float) -> dict[str, Any]:
        """The first picture of which it is true, by the stream of events."""
        deadline, last = time.monotonic() + within_s, None
        with self.http.stream("GET", "/api/v1/events", timeout=within_s) as stream:
            for line in stream.iter_lines():
                if line.startswith('data: {"at"') and '"models"' in line:
                    last = json.loads(line[6:])
                    if true(last):
                        return last
                if time.monotonic() > deadline:
                    break
        raise AssertionError(f"not within {within_s} s: {last}")

    def end(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def swarm() -> Iterator[LocalSwarm]:
    with LocalSwarm(*COMMON) as local:
        local.start(["0:12"], "--name", "kitchen")
        local.start(["12:24"], "--name", HOSTILE, "--public-address")
        local.start(["0:12"])
        yield local


@pytest.fixture
def shown(swarm: LocalSwarm, tmp_path: Path) -> Iterator[Dashboard]:
    made = Dashboard(swarm.join, "--history", str(tmp_path / "history.sqlite"))
    yield made
    made.end()


@pytest.mark.swarm
def test_what_is_shown_is_true(swarm: LocalSwarm, shown: Dashboard, tmp_path: Path):
    kitchen, cellar, attic = swarm.peers
    picture = shown.swarm
    (model,) = picture["models"]
    assert (model["state"], model["coverage"]) == ("fragile", [2] * 12 + [1] * 12)
    assert model["single"] == ["12:24"] == [model["join"]["blocks"]]
    rows = {row["id"]: row for row in picture["peers"]}
    assert (rows[kitchen.peer_id]["name"], rows[kitchen.peer_id]["address"]) == ("kitchen", None)
    assert (rows[cellar.peer_id]["name"], rows[cellar.peer_id]["address"]) == (HOSTILE, cellar.ready["address"])
    assert model["join"]["complete"] and "/ip4/127.0.0.1/" in model["join"]["command"], "loopback is no secret"

    with (
        Client(swarm=swarm.join) as client,
        client.stream("def fib(n):", max_new_tokens=900, ignore_eos=True) as stream,
    ):
        next(stream)
        begun, seen = time.monotonic(), None
        for count, _ in enumerate(stream, 1):
            if count % 25 == 0:
                picture = shown.swarm
                if picture["totals"]["tokens_per_s"] > 0 and picture["links"]:
                    seen = picture
                    break
        assert seen is not None and time.monotonic() - begun < 8
        assert seen["totals"]["sessions"] == 1
        ways = {(link["from"], link["to"]): link["sessions"] for link in seen["links"]}
        assert ways[cellar.peer_id, "clients"] == 1
        assert sum(ways.get((first.peer_id, cellar.peer_id), 0) for first in (kitchen, attic)) == 1
    shown.when(lambda p: p["totals"]["tokens_per_s"] == 0 and p["totals"]["sessions"] == 0, within_s=8)

    answer = shown.http.post("/api/v1/try", json={"prompt": "def fib(n):", "max_tokens": 20})
    names = [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names[0] == "route" and names[-1] == "done" and names.count("text") >= 10
    done = json.loads(answer.text.rstrip().rsplit("data: ", 1)[1])
    assert [row["blocks"] for row in done["waterfall"]] == ["0:12", "12:24"] and done["tokens"] <= 20

    cellar.kill()
    broken = shown.when(lambda p: p["models"][0]["state"] == "broken", within_s=8)
    assert broken["models"][0]["gaps"] == ["12:24"] and broken["models"][0]["join"]["blocks"] == "12:24"
    refused = shown.http.post("/api/v1/try", json={"prompt": "x", "max_tokens": 2}).text
    assert "nobody serves blocks 12:24" in refused
    kitchen.terminate()
    shown.when(lambda p: [r["state"] for r in p["peers"] if r["id"] == kitchen.peer_id] == ["gone"], within_s=8)

    with shown.http.stream("GET", "/api/v1/events") as stream:
        next(stream.iter_raw())
        shown.process.send_signal(signal.SIGTERM)
        assert shown.process.wait(15) == 0
    assert (tmp_path / "history.sqlite").exists()


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--join", MADDR, "--listen", f"127.0.0.1:{port}", "--log-level", "error"]) == 4
    assert capsys.readouterr().err.startswith(f"shoal: cannot listen on 127.0.0.1:{port}")


@pytest.mark.swarm
def test_a_swarm_that_nobody_answers_for_is_one_line():
    found = subprocess.run(
        [sys.executable, "-m", "dashboard", "--listen", "127.0.0.1:0", "--join", MADDR, "--log-level", "error"],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == 4 and found.stdout == ""
    assert found.stderr.splitlines()[-1].startswith("shoal: ") and "Traceback" not in found.stderr
