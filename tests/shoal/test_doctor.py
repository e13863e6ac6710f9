"""``shoal doctor`` as it is called: its lines, its JSON, its exit status, its mistakes; a real swarm with a hole."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from peer.local import ROOT, LocalSwarm
from shoal import doctor
from shoal.doctor import Wish, drawn, main, rooms, verdict, written
from shoal.finding import Finding
from swarm.address import Address

WARN = Finding("peer", "warn", "[red]far[/] away", "wait")


def shown(finding: Finding, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(drawn(finding, width))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_a_finding_keeps_to_the_terminal_and_its_text_is_no_markup(width: int):
    lines = shown(Finding("join address", "fail", "a" * 150 + " [red]x[/]", "b" * 90), width).splitlines()
    assert all(len(line) <= width for line in lines)
    joined = "".join(line.strip() for line in lines)
    assert "fail" in joined and "[red]x[/]" in joined and joined.count("a") > 150 and joined.count("b") == 90


def test_in_a_file_a_finding_is_a_line_and_its_advice_another():
    first, second = written(WARN)
    assert first.split() == ["warn", "peer", "[red]far[/]", "away"] and second.strip() == "→ wait"


def test_the_verdict_counts():
    assert verdict([Finding("x", "ok", "fine")]) == "All is well"
    assert verdict([Finding("x", "fail", "bad", "mend"), WARN]).startswith("1 to mend, 1 to look at")


@pytest.mark.parametrize(
    "arguments",
    [["--join", "nonsense"], ["--listen", "here"], ["--announce", "0.0.0.0:1"], ["--device", "tpu"], ["--what"], ["x"]],
)
def test_what_cannot_be_meant_is_one_line_and_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    try:
        status = main(arguments)
    except SystemExit as left:  # argparse's way
        status = left.code
    said = capsys.readouterr()
    assert status == 2 and said.out == ""
    assert said.err.startswith("shoal: ") and said.err.count("\n") == 1


def test_the_swarm_is_looked_at_only_where_one_is_named(monkeypatch: pytest.MonkeyPatch):
    assert [title for title, _ in rooms(Wish())] == ["this machine", "its network"]
    named = dict(rooms(Wish(join=("x",), listen=Address("127.0.0.1", 1))))
    assert "the swarm" in named and "announced address" in [check.name for check in named["its network"]]


def test_json_is_one_object_and_the_status_follows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for found, status in ((WARN, 0), (Finding("x", "fail", "bad", "mend it"), 1)):
        check = doctor.Check("x", "looking", 5.0, lambda found=found: found)
        monkeypatch.setattr(doctor, "rooms", lambda _, check=check: [("room", [check])])
        assert main(["--json"]) == status
        said = json.loads(capsys.readouterr().out)
        assert said == {
            "ok": status == 0,
            "checks": [{"check": found.check, "state": found.state, "found": found.found, "advice": found.advice}],
        }


def examined(*arguments: str) -> tuple[int, list[Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "shoal", "doctor", "--json", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=90, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["checks"]


@pytest.mark.swarm
def test_a_swarm_with_a_hole_and_a_frozen_peer_is_found_out():
    with LocalSwarm("--threads", "1", "--log-level", "warning") as swarm:
        first, second = swarm.start(("0:12", "8:20"))
        second.freeze()
        status, checks = examined("--join", *first.join, "--listen", "127.0.0.1:0")
    found: dict[str, list[Any]] = {}
    for check in checks:
        found.setdefault(check["check"], []).append(check)
    assert status == 1
    (coverage,) = found["coverage"]
    assert coverage["state"] == "fail" and "nobody serves blocks 20:24" in coverage["found"]
    assert "shoal serve --blocks 20:24 --join" in coverage["advice"]
    assert sorted(peer["state"] for peer in found["peer"]) == ["ok", "warn"]
    assert [found[name][0]["state"] for name in ("join address", "swarm", "DHT from outside", "clock and peers")] == [
        "ok"
    ] * 4
