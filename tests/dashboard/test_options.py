"""The command line becomes a DashboardConfig, and mistakes one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.history import default_file
from dashboard.options import parse
from dashboard.serve import main
from swarm.address import Address

MADDR = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"


def test_everything_that_is_said_arrives():
    config = parse(
        f"--listen 0.0.0.0:80 --join {MADDR} --public-join {MADDR} {MADDR}2 --model a --model b --history h.sqlite "
        "--try-tokens 64 --try-at-once 2 --try-per-minute 3 --rpm 90 --max-streams 7 --log-level error".split(),
        {},
    )
    assert (config.listen, config.join, config.public_join) == (Address("0.0.0.0", 80), (MADDR,), (MADDR, MADDR + "2"))
    assert (config.models, config.history, config.own_history) == (("a", "b"), Path("h.sqlite"), True)
    assert (config.try_tokens, config.try_at_once, config.try_per_minute) == (64, 2, 3.0)
    assert (config.requests_per_minute, config.max_streams, config.log_level) == (90.0, 7, "error")


def test_the_defaults():
    config = parse([], {"SHOAL_SWARM": MADDR})
    assert config.join == (MADDR,) and config.history == default_file() and not config.own_history and config.try_it
    config = parse(["--join", MADDR, "--history", "none", "--no-try-it"], {})
    assert config.history is None and not config.own_history and not config.try_it


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "no swarm is named"),
        (f"--join {MADDR} --listen x", "--listen"),
        ("--join here", "cannot join 'here'"),
        (f"--join {MADDR} --public-join here", "cannot join 'here'"),
        (f"--join {MADDR} --try-tokens 0", "try_tokens must be at least 1"),
        (f"--join {MADDR} --try-tokens 5000", "expected at most 1024"),
        (f"--join {MADDR} --rpm nan", "requests_per_minute must be a positive number"),
        (f"--join {MADDR} --rpm many", "invalid float value"),
        (f"--join {MADDR} --nonsense", "unrecognized"),
    ],
)
def test_a_mistake_is_one_line(
    line: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHOAL_SWARM", raising=False)
    assert main(line.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("shoal: ") and said.err.count("\n") == 1 and says in said.err


def test_help_needs_nothing_slow():
    code = (
        "import sys; from dashboard.options import parse; sys.exit('grpc' in sys.modules or 'starlette' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
