"""``shoal top`` as it is called: usage, a served picture, a server that is none, a terminal, a real swarm."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from peer.local import ROOT, LocalSwarm
from shoal.glance import Order
from shoal.top import Screen, main

from .test_snapshot import BODY


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as there:
        thread = threading.Thread(target=there.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{there.server_port}"
        finally:
            there.shutdown()
            thread.join()


def test_what_a_dashboard_shows_is_printed_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]):
    with server(200, json.dumps(BODY).encode()) as url:
        assert main(["--url", url]) == 0
        shown = capsys.readouterr().out
        assert main(["--url", f"{url}/", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == BODY
    assert "broken: nobody serves blocks 2:3" in shown and "kitchen" in shown and "\x1b" not in shown


@pytest.mark.parametrize(
    ("status", "body", "exit_status", "said"),
    [
        (404, b"", 4, "is that the address of a dashboard or a gateway?"),
        (503, b"", 4, "status 503"),
        (200, b"<html>", 5, "does not answer in JSON"),
        (200, b"{}", 5, "no picture of a swarm"),
        (200, b"[" * 100_000, 5, "does not answer in JSON"),
        (200, b" " * (9 << 20), 5, "more than 8 MiB"),
    ],
    ids=["404", "503", "html", "empty", "deep", "endless"],
)
def test_a_server_that_is_no_dashboard_is_one_line(
    status: int, body: bytes, exit_status: int, said: str, capsys: pytest.CaptureFixture[str]
):
    with server(status, body) as url:
        assert main(["--once", "--url", url]) == exit_status
    error = capsys.readouterr().err
    assert error.startswith("shoal: ") and said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no swarm is named"),
        (["--url", "ftp://x"], "no URL of a dashboard"),
        (["--url", "127.0.0.1:8080"], "no URL of a dashboard"),
        (["--join", "nonsense"], "cannot join"),
        (["--sort", "taste"], "invalid choice"),
        (["--join", "x", "--url", "y"], "not allowed with"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHOAL_SWARM", raising=False)
    try:
        status = main(arguments)
    except SystemExit as left:  # argparse's way
        status = left.code
    error = capsys.readouterr().err
    assert status == 2 and error.startswith("shoal: ") and said in error and error.count("\n") == 1


def test_nobody_at_a_url_and_nobody_in_a_swarm_are_4(capsys: pytest.CaptureFixture[str]):
    assert main(["--once", "--url", "http://127.0.0.1:1"]) == 4
    assert "cannot be asked" in capsys.readouterr().err


async def test_keys_sort_turn_round_and_leave():
    screen = Screen(Order())
    screen.type("s")
    assert screen.order == Order("name")
    screen.type("r")
    assert screen.order == Order("name", backwards=True)
    screen.type("x")
    assert not screen.left.is_set()
    screen.type("q")
    assert screen.left.is_set() and screen.status == 0


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *command: str, columns: int = 90):
        self.shown = ""
        own, self._far = pty.openpty()
        fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.before = termios.tcgetattr(self._far)
        env = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
        env.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            command, stdin=self._far, stdout=self._far, stderr=self._far, env=env, cwd=ROOT, start_new_session=True
        )
        self._own = own

    def until(self, said: Callable[[str], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not said(self.shown):
            assert time.monotonic() < deadline, self.shown[-2000:]
            if select.select([self._own], [], [], 0.2)[0]:
                self.shown += os.read(self._own, 65536).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._own, keys.encode())

    def ended(self) -> int:
        """Its exit status. The terminal is as it was."""
        self.until(lambda _: self.process.poll() is not None)
        while select.select([self._own], [], [], 0)[0]:
            self.shown += os.read(self._own, 65536).decode(errors="replace")
        assert termios.tcgetattr(self._far) == self.before
        assert self.shown.rindex("\x1b[?1049l") > self.shown.rindex("\x1b[?1049h")
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)
        os.close(self._far)


@contextmanager
def terminal(*arguments: str, columns: int = 90) -> Iterator[Terminal]:
    there = Terminal(sys.executable, "-m", "shoal", "top", *arguments, columns=columns)
    try:
        yield there
    finally:
        there.close()


def test_on_a_terminal_it_stays_and_hears_keys_and_q_leaves_it_as_it_was():
    with server(200, json.dumps(BODY).encode()) as url, terminal("--url", url, columns=40) as there:
        there.until(lambda shown: "broken" in shown)
        assert "\x1b[3" not in there.shown  # NO_COLOR
        there_is_none = there
        there_is_none.type("s")
        there.until(lambda shown: "peer▾" in shown)
        there.type("q")
        assert there.ended() == 0


def test_when_the_source_vanishes_the_last_picture_stays_with_its_age_and_ctrl_c_is_130():
    with server(200, json.dumps(BODY).encode()) as url:
        there = Terminal(sys.executable, "-m", "shoal", "top", "--url", url)
        try:
            there.until(lambda shown: "broken" in shown)
        except BaseException:
            there.close()
            raise
    try:
        there.until(lambda shown: "picture of" in shown and "cannot be asked" in shown)
        there.process.send_signal(signal.SIGINT)
        assert there.ended() == 130
    finally:
        there.close()


@pytest.mark.swarm
def test_a_real_swarm_is_watched_and_a_killed_peer_leaves_a_gap():
    with LocalSwarm("--threads", "1", "--log-level", "warning") as swarm:
        first, second = swarm.start(("0:12", "12:24"))
        with terminal("--join", *first.join) as there:
            there.until(lambda shown: "fragile: one peer alone serves blocks 0:12, 12:24" in shown)
            second.kill()
            there.until(lambda shown: "broken: nobody serves blocks 12:24" in shown and "silent" in shown)
            there.process.send_signal(signal.SIGTERM)
            assert there.ended() == 0
