"""The command line: what it prints where, and what it ends with."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import Client
from client.generate import main
from tests.client.loopback import ADDRESS, InThread, Loopback
from tests.client.words import tokenizer

ROOT = Path(__file__).resolve().parents[2]
FIELDS = [
    "text", "token_ids", "logprobs", "finish_reason", "prompt_tokens", "completion_tokens",
    "ttft_s", "tokens_per_s", "route", "failovers", "cached_tokens", "accepted_tokens", "shape",
]  # fmt: skip


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[InThread]:
    running = InThread(Loopback([(0, 3), (3, 6)], tmp_path / "assets"))
    with running as running.client_type:  # type: ignore[attr-defined]
        yield running


def run(swarm: InThread, *arguments: str) -> int:
    return main(["--join", ADDRESS, *arguments], swarm.client_type)  # type: ignore[attr-defined]


def test_json_is_one_line_with_exactly_the_promised_fields(swarm: InThread, capsys: pytest.CaptureFixture[str]):
    options = ["--prompt", "abc", "--max-new-tokens", "5", "--ignore-eos", "--temperature", "0.8", "--seed", "3"]
    assert run(swarm, *options, "--logprobs", "2", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    fields = json.loads(line)
    assert list(fields) == FIELDS
    assert fields["completion_tokens"] == len(fields["token_ids"]) == len(fields["logprobs"]) == 5
    assert [leg["blocks"] for leg in fields["route"]] == [[0, 3], [3, 6]]


def test_text_streams_to_stdout_and_nothing_else_does(swarm: InThread, capsys: pytest.CaptureFixture[str]):
    options = ["--prompt", "abc", "--max-new-tokens", "5", "--ignore-eos"]
    assert run(swarm, *options, "--json") == 0
    expected = json.loads(capsys.readouterr().out)["text"]
    assert run(swarm, *options) == 0
    out, err = capsys.readouterr()
    assert out == expected + "\n" and err == "", "stderr is for people at terminals"


def test_a_prompt_can_come_from_stdin(
    swarm: InThread, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("abc é".encode())))
    assert run(swarm, "--prompt", "-", "--max-new-tokens", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] == len(tokenizer().encode("abc é").ids)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    assert run(swarm, "--prompt", "-") == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_stops_can_be_several(swarm: InThread, capsys: pytest.CaptureFixture[str]):
    assert run(swarm, "--prompt", "abc", "--max-new-tokens", "6", "--ignore-eos", "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    options = ["--stop", "never seen", "--stop-token-id", str(whole["token_ids"][2]), "--json"]
    assert run(swarm, "--prompt", "abc", "--max-new-tokens", "6", *options) == 0
    cut = json.loads(capsys.readouterr().out)
    assert cut["token_ids"] == whole["token_ids"][:3] and cut["finish_reason"] == "stop"


def test_when_the_swarm_fails_in_mid_sentence_the_text_so_far_is_printed_and_the_status_tells(
    swarm: InThread, capsys: pytest.CaptureFixture[str]
):
    swarm.loopback.peers[1].runner.answers_left = 4
    assert run(swarm, "--prompt", "abc", "--max-new-tokens", "50", "--ignore-eos", "--patience-s", "0.2", "--json") == 4
    out, err = capsys.readouterr()
    fields = json.loads(out)
    assert list(fields) == FIELDS
    assert fields["finish_reason"] == "error" and 0 < fields["completion_tokens"] < 50 and fields["text"]
    assert fields["prompt_tokens"] == len(tokenizer().encode("abc").ids)
    assert fields["ttft_s"] > 0 and fields["tokens_per_s"] > 0 and fields["logprobs"] is None
    assert fields["completion_tokens"] == len(fields["token_ids"])
    assert [leg["blocks"] for leg in fields["route"]] == [[0, 3], [3, 6]]
    assert err.startswith("shoal: ") and err.count("\n") == 1 and "3:6" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prompt", "x"], "no swarm is named"),
        (["--prompt", "x", "--join", "nonsense"], "cannot join 'nonsense'"),
        (["--prompt", "x", "--join", ADDRESS, "--temperature", "-1"], "temperature must lie in"),
        (["--prompt", "x", "--join", ADDRESS, "--prefer", "me"], "a peer id has 32 hex digits"),
        (["--prompt", "x", "--join", ADDRESS, "--suspect-after-s", "0"], "suspect_after_s must be a positive number"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHOAL_SWARM", raising=False)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("shoal: ") and err.count("\n") == 1 and complaint in err


def test_ctrl_c_is_status_130_without_a_traceback(capsys: pytest.CaptureFixture[str]):
    class Interrupted(Client):
        def stream(self, prompt, **options):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    assert main(["--prompt", "x", "--join", ADDRESS], Interrupted) == 130
    assert capsys.readouterr() == ("", "")


def test_usage_is_told_without_loading_torch():
    code = (
        "import sys\n"
        "from client.generate import main\n"
        "print(main(['--prompt', 'x', '--join', 'y']), 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "2 False False\n"


def test_a_broken_pipe_is_quiet():
    code = (
        "import os, sys\n"
        "from client.terminal import command\n"
        "def body():\n"
        "    os.close(reader)\n"
        "    print('x' * 100000, flush=True)\n"
        "    return 0\n"
        "reader, writer = os.pipe()\n"
        "os.dup2(writer, 1)\n"
        "sys.exit(command(body))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_prompt_from_a_closed_stdin_is_bad_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["--prompt", "-", "--join", ADDRESS]) == 2
    assert capsys.readouterr().err == "shoal: the prompt is to come from stdin, which is closed\n"


def test_a_prompt_of_bytes_that_are_no_text_is_bad_usage(swarm: InThread, capsys: pytest.CaptureFixture[str]):
    assert run(swarm, "--prompt", os.fsdecode(b"\xff\xfe\x80")) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("shoal: the prompt is not valid Unicode text") and err.count("\n") == 1
