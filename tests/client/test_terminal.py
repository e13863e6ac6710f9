"""What the command lines share: errors in one line, and nothing but text where no person is looking."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from client.config import ClientConfig
from client.result import Leg, Piece, Result
from client.sampling import Options
from client.terminal import (
    Progress,
    add_sampling_options,
    add_swarm_options,
    command,
    config_of,
    options_of,
)
from proto.messages import WireDType
from swarm.errors import ModelError, NoRoute, ShoalError, SwarmUnreachable, Timeout, UsageError

ROOT = Path(__file__).resolve().parents[2]
ROUTE = [Leg(peer="a" * 32, blocks=[0, 3]), Leg(peer="b" * 32, blocks=[3, 6])]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_swarm_options(parser)
    add_sampling_options(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("error", "status"),
    [(UsageError("x"), 2), (ModelError("x"), 3), (SwarmUnreachable("x"), 4), (NoRoute("x"), 4), (Timeout("x"), 5)],
)
def test_every_error_of_ours_is_one_line_and_its_status(
    error: ShoalError, status: int, capsys: pytest.CaptureFixture[str]
):
    def body() -> int:
        raise error

    assert command(body) == status
    assert capsys.readouterr() == ("", "shoal: x\n")


def test_a_mistake_of_our_own_is_not_hidden():
    def body() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command(body)


def test_every_option_of_the_python_call_is_one_of_the_command_line():
    of_the_client = {field.name for field in fields(ClientConfig)} - {"max_new_tokens"} | {"join", "model"}
    several = {"n", "best_of", "num_beams", "length_penalty", "early_stopping"}  # one text streams to a terminal
    names = set(vars(parse())) - of_the_client
    assert names - several == set(Options.__annotations__) - several - {"logprobs"}, "generate adds --logprobs"


def test_options_arrive_as_given_and_the_rest_is_left_open():
    options = options_of(parse("--temperature", "0.5", "--stop", "a", "--stop", "b", "--ignore-eos"))
    given = {name: value for name, value in options.items() if value is not None}
    assert given == {"temperature": 0.5, "stop": ["a", "b"], "ignore_eos": True}


def test_the_choices_of_a_client_arrive_as_given_and_the_rest_is_left_open():
    prefer = ("--prefer", "a" * 32, "--prefer", "b" * 8)
    config = config_of(parse("--suspect-after-s", "1.5", "--wire", "bf16", "--profile", "f32", *prefer))
    assert config == ClientConfig(
        suspect_after_s=1.5,
        wire=WireDType.BF16,
        profile="f32",
        prefer=("a" * 32, "b" * 8),
        assets_dir=config.assets_dir,
    )
    assert config_of(parse()) == ClientConfig()


def test_join_takes_several_addresses_in_either_way():
    assert parse("--join", "a", "b", "--join", "c").join == ["a", "b", "c"]


def test_a_route_reads_from_left_to_right():
    assert Piece("x", (1,), None, ROUTE, 1).route_text == "aaaaaaaa[0:3] → bbbbbbbb[3:6]"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(monkeypatch: pytest.MonkeyPatch, err: io.StringIO) -> str:
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with Progress() as progress:
        progress.show(Piece("x", (1,), None, ROUTE, 1))
        progress.summary(Result("x", (1,), None, "stop", 1, 1, 0.25, 4.0, ROUTE, 1, 0))
    return err.getvalue()


def test_a_person_sees_speed_route_and_fail_overs(monkeypatch: pytest.MonkeyPatch):
    shown = show(monkeypatch, Screen())
    assert "4.0 tokens/s" in shown and "1 fail-over" in shown and "[0:3] → bbbbbbbb[3:6]" in shown


def test_a_file_sees_nothing(monkeypatch: pytest.MonkeyPatch):
    assert show(monkeypatch, io.StringIO()) == ""


SHELL = "import sys\nfrom client.terminal import command\nfrom swarm.errors import UsageError\n"


def shell(body: str, redirection: str) -> tuple[int, str, str]:
    """A command line whose body is ``body``, run with its streams as ``redirection`` has them."""
    code = f"{SHELL}def body():\n    {body}\n    return 0\nsys.exit(command(body))"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, code],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_full_disk_is_one_line_and_status_1():
    status, _, err = shell("print('x' * 9, flush=True)", ">/dev/full")
    assert status == 1 and err.startswith("shoal: ") and err.count("\n") == 1 and "No space left" in err


def test_where_nobody_can_be_told_the_status_still_tells():
    assert shell("raise UsageError('x')", "2>/dev/full") == (2, "", "")
    assert shell("raise UsageError('x')", "2>&-") == (2, "", "")


def test_closed_streams_lead_nowhere():
    assert shell("print('x', flush=True); sys.stderr.isatty()", "2>&-") == (0, "x\n", "")
    assert shell("print('x', flush=True); sys.stdout.isatty()", ">&-") == (0, "", "")
    free = "import os; fd = os.open('.', os.O_RDONLY); print(fd > 2, file=sys.stderr)"
    assert shell(free, "<&- >&-") == (0, "", "True\n"), "what is opened later is not taken for a standard stream"
