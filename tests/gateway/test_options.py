"""The command line becomes a GatewayConfig, and mistakes one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.limits import Limits
from gateway.options import parse
from gateway.serve import main
from swarm.address import Address
from swarm.errors import UsageError

MADDR = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"


def test_everything_that_is_said_arrives():
    config = parse(
        f"--listen 0.0.0.0:80 --join {MADDR} --model a --model b@ab12 --alias c=a:9,b@ab12:1 --keys k --rpm 60 "
        "--concurrent 3 --max-answers 4 --drain-s 0 --max-prompt-tokens 100 --profile c8".split(),
        {},
    )
    assert (config.listen, config.join, config.models) == (Address("0.0.0.0", 80), (MADDR,), ("a", "b@ab12"))
    assert config.aliases["c"].targets == (("a", 9), ("b@ab12", 1))
    assert (config.keys, config.limits, config.max_answers, config.drain_s) == (Path("k"), Limits(60, 3), 4, 0)
    assert (config.max_prompt_tokens, config.profile) == (100, "c8")


def test_the_swarm_may_stand_in_the_environment():
    assert parse([], {"SHOAL_SWARM": MADDR}).join == (MADDR,)


def test_a_dashboard_is_shown_unless_it_was_said_otherwise():
    shown = parse(["--join", MADDR], {}).dashboard
    assert shown is not None and shown.join == (MADDR,) and shown.try_it and not shown.own_history
    assert parse(["--join", MADDR, "--no-dashboard"], {}).dashboard is None
    told = parse(["--join", MADDR, "--public-join", MADDR, "--history", "h.sqlite", "--no-try-it"], {}).dashboard
    assert told is not None
    assert (told.public_join, told.history, told.own_history, told.try_it) == ((MADDR,), Path("h.sqlite"), True, False)


@pytest.mark.parametrize(("line", "environ"), [(["--keys", "k"], {}), ([], {"SHOAL_API_KEYS": "me sk-1"})])
def test_with_keys_nobody_tries_without_one_unless_it_was_said_so(line: list[str], environ: dict[str, str]):
    for more, tries in (([], False), (["--try-it"], True)):
        shown = parse(["--join", MADDR, *line, *more], environ).dashboard
        assert shown is not None and shown.try_it is tries


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "no swarm is named"),
        (f"--join {MADDR} --listen x", "--listen"),
        (f"--join {MADDR} --queue-timeout-s 0", "positive"),
        (f"--join {MADDR} --max-running 0", "at least 1"),
        (f"--join {MADDR} --model a --alias a=b", "both a model"),
        (f"--join {MADDR} --swim", "--swim"),
        (f"--join {MADDR} --rpm -1", "per minute"),
        ("--join nowhere", "cannot join"),
        (f"--join {MADDR} --drain-s nan", "drain_s"),
        (f"--join {MADDR} --max-prompt-tokens 0", "at least 1"),
    ],
)
def test_a_mistake_is_one_line(
    line: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHOAL_SWARM", raising=False)
    with pytest.raises(UsageError, match=says):
        parse(line.split(), {})
    assert main(line.split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_line_imports_nothing_slow():
    script = (
        "import sys, gateway.serve; print([m for m in ('torch', 'fastapi', 'grpc', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
