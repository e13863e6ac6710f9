"""The terminal chat: what is said, what is remembered, and how it ends."""

from __future__ import annotations

import io
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from client import Client, Piece, Result, Stream
from client.chat import Conversation, _ask, main
from swarm.errors import SwarmError
from tests.client.loopback import ADDRESS, InThread, Loopback


class Parrot(Client):
    """Answers with the number of messages; ``trouble`` is raised after the first piece."""

    def __init__(self) -> None:
        super().__init__(ADDRESS)
        self.heard: list[list[dict[str, str]]] = []
        self.trouble: BaseException | None = None

    def stream_chat(self, messages: Sequence[dict[str, str]], **options: object) -> Stream:  # type: ignore[override]
        return Stream(self._items(messages))

    def _items(self, messages: Sequence[dict[str, str]]) -> Generator[Piece | Result, None, None]:
        self.heard.append(list(messages))
        yield Piece("an", (1,), None, [], 0)
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        yield Piece(f"swer {len(messages)}", (2,), None, [], 0)
        yield Result("answer", (1, 2), None, "stop", 1, 2, 0.1, 1.0, [], 0, 0)


def talk(parrot: Parrot, *lines: str, system: str | None = None) -> Conversation:
    conversation = Conversation(parrot, {}, system)
    spoken = iter(lines)
    conversation.run(lambda: next(spoken, None))
    return conversation


def test_what_was_said_is_remembered(capsys: pytest.CaptureFixture[str]):
    parrot = Parrot()
    talk(parrot, "hello", "", "and now?", system="be brief")
    assert [m["content"] for m in parrot.heard[1]] == ["be brief", "hello", "answer 2", "and now?"]
    assert [m["role"] for m in parrot.heard[1]] == ["system", "user", "assistant", "user"]
    assert capsys.readouterr().out == "answer 2\nanswer 4\n"


def test_reset_forgets_all_but_the_system_prompt_and_quit_leaves():
    parrot = Parrot()
    conversation = talk(parrot, "hello", "/reset", "again", "/quit", "never said", system="be brief")
    assert [m["content"] for m in parrot.heard[1]] == ["be brief", "again"]
    assert len(parrot.heard) == 2 and len(conversation.messages) == 3


def test_help_and_unknown_commands_tell_the_commands(capsys: pytest.CaptureFixture[str]):
    parrot = Parrot()
    talk(parrot, "/help", "/nonsense")
    assert capsys.readouterr().err.count("/reset begins anew") == 2 and not parrot.heard


def test_ctrl_c_ends_the_answer_only_and_what_was_shown_is_remembered():
    parrot = Parrot()
    parrot.trouble = KeyboardInterrupt()
    talk(parrot, "hello", "go on")
    assert [m["content"] for m in parrot.heard[1]] == ["hello", "an", "go on"]


def test_trouble_is_one_line_and_the_question_can_be_asked_again(capsys: pytest.CaptureFixture[str]):
    parrot = Parrot()
    parrot.trouble = SwarmError("nobody serves blocks 3:6")
    talk(parrot, "hello", "hello")
    assert [m["content"] for m in parrot.heard[1]] == ["hello"]
    assert capsys.readouterr().err == "\nshoal: nobody serves blocks 3:6\n"


def test_the_whole_command_talks_to_a_swarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    with InThread(Loopback([(0, 6)], tmp_path)) as client_type:
        assert main(["--join", ADDRESS, "--max-new-tokens", "4"], client_type) == 0
    out, err = capsys.readouterr()
    assert out.strip() and "hashes, 6 blocks" in err


def test_a_closed_stdin_is_the_end_of_the_conversation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", None)
    assert _ask() is None
