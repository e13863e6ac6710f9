"""The commands of the README, as written there, against real peers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from peer.local import LocalPeer, LocalSwarm

from .conftest import COMMON, PROMPT

FIELDS = [
    "text", "token_ids", "logprobs", "finish_reason", "prompt_tokens", "completion_tokens", "ttft_s", "tokens_per_s",
    "route", "failovers", "cached_tokens", "accepted_tokens", "shape",
]  # fmt: skip


@pytest.fixture(scope="module")
def two() -> Iterator[LocalSwarm]:
    with LocalSwarm(*COMMON) as swarm:
        swarm.start(["0:12", "12:24"])
        yield swarm


def run(module: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=90, check=False)


def test_generate_prints_one_json_line_with_exactly_the_documented_fields(two: LocalSwarm):
    done = run(
        "client.generate", "--join", *two.join, "--prompt", PROMPT, "--max-new-tokens", "8",
        "--ignore-eos", "--logprobs", "2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert list(answer) == FIELDS
    assert len(answer["token_ids"]) == answer["completion_tokens"] == len(answer["logprobs"]) == 8
    assert [leg["blocks"] for leg in answer["route"]] == [[0, 12], [12, 24]]
    assert answer["ttft_s"] > 0
    assert answer["tokens_per_s"] > 0


def test_generate_streams_the_same_text_that_json_holds(two: LocalSwarm):
    common = ("--join", *two.join, "--prompt", PROMPT, "--max-new-tokens", "8", "--ignore-eos")
    streamed, whole = run("client.generate", *common), run("client.generate", *common, "--json")
    assert streamed.returncode == 0, streamed.stderr
    assert json.loads(whole.stdout)["text"].strip() in streamed.stdout


def test_chat_answers_and_leaves_when_told(two: LocalSwarm):
    done = run("client.chat", "--join", *two.join, "--max-new-tokens", "6", given="hello\n/quit\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


def test_the_example_runs(two: LocalSwarm):
    done = run("examples.hello", *two.join)
    assert done.returncode == 0, done.stderr
    assert "def fib(n):" in done.stdout


def test_a_newcomer_without_blocks_takes_what_is_missing_and_the_text_can_be_finished():
    with LocalSwarm(*COMMON) as swarm:
        swarm.start(["0:9"])
        newcomer = LocalPeer("--join", *swarm.join, *COMMON)
        swarm.peers.append(newcomer)
        newcomer.wait_ready()
        assert newcomer.ready["blocks"] == [9, 24]
        done = run("client.generate", "--join", *swarm.join, "--prompt", PROMPT, "--max-new-tokens", "4", "--json")
        assert done.returncode == 0, done.stderr


def test_when_blocks_are_lost_for_good_the_error_names_them_and_the_text_so_far_is_there():
    with LocalSwarm(*COMMON) as swarm:
        first, second = swarm.start(["0:12", "12:24"])
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "client.generate", "--join", *first.join, "--prompt", PROMPT,
             "--max-new-tokens", "1000", "--ignore-eos"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            head = process.stdout.read(40)  # it is in mid-sentence
            second.kill()
            rest, errors = process.communicate(timeout=90)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 4
    assert len(head + rest) >= 40
    (complaint,) = [line for line in errors.splitlines() if line.startswith("shoal:")]
    assert "12:24" in complaint
    assert "Traceback" not in errors
