"""The ``shoal`` command hands its words on, and says plainly what it does not know."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shoal.main import COMMANDS, main


def test_without_a_command_it_lists_them_and_fails(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    listed = capsys.readouterr().out
    assert all(f"shoal {name}" in listed for name in COMMANDS)


def test_help_lists_the_commands_and_succeeds(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    assert "shoal serve" in capsys.readouterr().out


def test_an_unknown_command_is_named_with_those_that_exist(capsys: pytest.CaptureFixture[str]):
    assert main(["swim"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("shoal: no command 'swim'")
    assert "serve" in said


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("shoal ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_for_help_quickly_and_alone(name: str):
    done = subprocess.run(
        [sys.executable, "-m", "shoal", name, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "usage:" in done.stdout
    assert done.stderr == ""


def test_a_bad_option_is_a_usage_error_of_the_tool_itself():
    done = subprocess.run(
        [sys.executable, "-m", "shoal", "serve", "--blocks", "9:3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "9:3" in done.stderr
    assert "Traceback" not in done.stderr
