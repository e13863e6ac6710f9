from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, commands

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MOST_EXPOSED = 20  # tenths: systemd calls up to 2 "OK"; a unit without any of this has 9.6


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units as systemd would find them, with a program that exists."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/shoal/bin/shoal", "/bin/true"))
    return sorted(tmp_path.iterdir())


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_understands_every_line(installed: list[Path]):
    done = analyze("verify", "--man=no", *installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", [unit.name for unit in UNITS])
def test_little_of_the_machine_is_exposed(name: str, installed: list[Path]):
    (unit,) = [unit for unit in installed if unit.name == name]
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", unit)
    if "--offline" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file (systemd before 250)")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_is_stopped_gently_and_started_again(unit: Path):
    said = settings(unit)
    (command,) = [command for command in commands() if command.where == unit.name]
    assert float(said["TimeoutStopSec"][0]) >= float(command.option("drain-s") or 0) + 15
    assert said["KillMode"] == ["mixed"], "the DHT's daemon would get SIGTERM too, and the goodbye would be lost"
    assert said["Restart"] == ["on-failure"] and said["RestartPreventExitStatus"] == ["2"]
    assert said["DynamicUser"] == ["yes"] and said["ProtectSystem"] == ["strict"]
    assert "OMP_WAIT_POLICY=PASSIVE" in said["Environment"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_a_unit(unit: Path):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(unit.read_text())
    assert parser.sections() == ["Unit", "Service", "Install"]
