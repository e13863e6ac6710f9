"""The Peer as a process: what a user and an orchestrator see of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from peer.serve import main
from proto import messages
from proto.connection import Connection
from proto.limits import Limits
from proto.messages import Chunk, Close, Hello, Open, Opened, Token, Want
from swarm.errors import DeadLink, Draining, Fault
from swarm.peerinfo import PeerState
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support import tiny
from tests.support.echo import Talk
from tests.support.processes import PeerProcess, peer_process
from tests.support.seats import hidden, tokens

pytestmark = pytest.mark.swarm

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "12D3KooWKfbX9hbhkgVJvP82nsKPsTt7BZg26Kpjq8oE3EhR3xuk"
SOON = 20.0
SESSION = b"s" * 16


@pytest.fixture(scope="module")
def model() -> str:
    return str(tiny.directory())


@pytest.fixture(scope="module")
def common(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return ("--model", model, "--threads", "1", "--cache", str(tmp_path_factory.mktemp("spans")))


@pytest.fixture(scope="module")
def peer(common: tuple[str, ...]) -> Iterator[PeerProcess]:
    """One that serves the first half, for the tests that leave it as it was."""
    web = ("--http", f"127.0.0.1:{free_port()}")
    with peer_process(*common, *web, "--blocks", "0:2", "--kv-tokens", "1000") as peer:
        yield peer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def failing(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs ``main`` here, for a peer that does not come up; gives its exit status and what it wrote to stderr."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level

    def run(*arguments: str) -> tuple[int, str]:
        status = main(arguments)
        said = capfd.readouterr()
        assert said.out == ""
        return status, said.err

    yield run
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def last_words(stderr: str) -> str:
    assert "Traceback" not in stderr
    line = stderr.splitlines()[-1]
    assert line.startswith("shoal: ")
    return line


def http(peer: PeerProcess, path: str) -> tuple[int, dict]:
    port = peer.arguments[peer.arguments.index("--http") + 1]
    try:
        with urllib.request.urlopen(f"http://{port}{path}", timeout=SOON) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def opening(span: Span = Span(0, 2)) -> Open:  # noqa: B008 - a frozen value
    sampling = SamplingParams() if span.end == 4 else None
    return Open(tiny.ref().fingerprint, "c8", span, 64, 8, sampling=sampling)


async def test_the_ready_line_says_what_a_client_needs_and_it_is_true(peer: PeerProcess):
    assert set(peer.ready) == {"event", "peer_id", "model", "blocks", "profile", "address", "join"}
    assert [peer.ready[key] for key in ("event", "model", "blocks", "profile")] == ["ready", "tiny", [0, 2], "c8"]
    assert peer.join
    connection = Connection(peer.ready["address"])
    info = await connection.info(SOON)
    await connection.close()
    assert (info.peer.peer_id, info.peer.model, info.peer.span) == (peer.peer_id, tiny.ref(), Span(0, 2))
    assert (info.peer.state, info.peer.kv_tokens, info.peer.sessions) == (PeerState.READY, 1024, 0)
    assert info.peer.block_s > 0
    assert {asset.name for asset in info.assets} >= {"config.json", "generation_config.json"}


async def test_a_session_runs_and_the_pool_returns_to_zero_when_the_client_vanishes(peer: PeerProcess):
    connection = Connection(peer.ready["address"])
    link = await connection.link(Hello("0.0-test"), Limits())
    assert link.peer_id == peer.peer_id
    talk = Talk(link, SESSION)
    talk.send(0, opening())
    assert isinstance((await talk.receive()).body, Opened)
    talk.send(0, messages.Path(0, None, 0))
    talk.send(0, tokens(0, 0, 8, Want.HIDDEN))
    assert isinstance(await talk.outcome(), Chunk)
    assert (await connection.info(SOON)).peer.kv_tokens_free == 1024 - 64
    await connection.close()
    again = Connection(peer.ready["address"])
    async with asyncio.timeout(SOON):
        while (await again.info(SOON)).peer.kv_tokens_free != 1024:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # what another process does can only be asked for
    await again.close()


def test_health_and_readiness_over_http(peer: PeerProcess):
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        code, body = http(peer, path)
        assert (code, body["status"], body["state"], body["peer_id"]) == (200, status, "READY", peer.peer_id)


async def test_garbage_on_the_port_disturbs_nobody(peer: PeerProcess):
    connection = Connection(peer.ready["address"])
    talk = Talk(await connection.link(Hello("0.0-test"), Limits()), SESSION)
    talk.send(0, opening())
    await talk.receive()
    talk.send(0, messages.Path(0, None, 0))
    host, port = peer.ready["address"].split(":")
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(5000), b"\x16\x03\x01" + bytes(500)):
        with socket.create_connection((host, int(port)), timeout=SOON) as scribbler:
            scribbler.sendall(data)
    talk.send(0, tokens(0, 0, 8, Want.HIDDEN))
    assert isinstance(await talk.outcome(), Chunk)
    talk.send(0, Close())
    await connection.close()
    assert "Traceback" not in peer.stderr


def test_logs_are_json_on_stderr_and_stdout_has_one_line(peer: PeerProcess):
    lines = [json.loads(line) for line in peer.stderr.splitlines()]
    assert "ready" in {line["event"] for line in lines}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("--threads 0", 2, "--threads is 0"),
        ("--blocks 3", 2, "write start:end"),
        ("--blocks 0:9", 2, "--blocks 0:9 lies outside tiny, which has 4 blocks; choose from 0:4"),
        ("--revision main", 2, "--revision"),
        ("--kv-tokens 999999999999", 2, "GiB are free and the weights take"),
        (f"--join /ip4/127.0.0.1/tcp/9/p2p/{NOBODY}", 4, "cannot join"),
        ("--join /ip4/127.0.0.1/tcp/9", 2, "/p2p/"),
        ("--model /nowhere/at-all", 3, "/nowhere/at-all"),
    ],
)
def test_a_peer_that_cannot_serve_says_why_in_one_line(
    failing: Callable[..., tuple[int, str]], common: tuple[str, ...], arguments: str, status: int, words: str
):
    code, stderr = failing(*common, *arguments.split())
    assert code == status, stderr
    assert words in last_words(stderr)


def test_a_checkpoint_that_is_damaged_is_named_and_nothing_is_announced(
    failing: Callable[..., tuple[int, str]], common: tuple[str, ...], tmp_path: Path
):
    for path in tiny.directory().iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:-1000] if path.suffix == ".safetensors" else data)
    code, stderr = failing(*common, "--model", str(tmp_path))
    assert code == 3, stderr
    assert "model.safetensors" in last_words(stderr)


def test_a_busy_port_is_named(peer: PeerProcess):
    address = peer.ready["address"]
    done = subprocess.run(
        [sys.executable, "-m", "peer.serve", "--listen", address], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert f"{address} is in use by another process" in last_words(done.stderr)


async def test_a_frozen_peer_answers_again_when_it_thaws(peer: PeerProcess):
    connection = Connection(peer.ready["address"])
    await connection.info(SOON)
    peer.stop_signal()
    with pytest.raises(Fault):
        await connection.info(0.2)
    peer.cont()
    assert (await connection.info(SOON)).peer.peer_id == peer.peer_id
    await connection.close()


def test_a_newcomer_takes_what_the_swarm_lacks_and_sigterm_makes_it_leave(peer: PeerProcess, common: tuple[str, ...]):
    with peer_process(*common, "--max-blocks", "3", env={"SHOAL_SWARM": " ".join(peer.join)}) as other:
        assert other.ready["blocks"] == [2, 4]
        for number in (signal.SIGTERM, signal.SIGINT):  # together they are one wish
            os.kill(other.pid, number)
        assert other.wait() == 0
        assert [json.loads(line)["event"] for line in other.stderr.splitlines()][-1] == "left"


async def test_a_draining_peer_lets_sessions_finish_takes_no_new_one_and_sends_the_rest_away(
    peer: PeerProcess, common: tuple[str, ...]
):
    web = ("--http", f"127.0.0.1:{free_port()}")
    with peer_process(*common, *web, "--join", *peer.join, "--max-blocks", "2", "--drain-s", "3") as leaving:
        assert leaving.ready["blocks"] == [2, 4], "whoever had them before has withdrawn its record"
        connection = Connection(leaving.ready["address"])
        link = await connection.link(Hello("0.0-test"), Limits())
        running, idle, late = (Talk(link, bytes([number]) * 16) for number in (1, 2, 3))
        for talk in (running, idle):
            talk.send(0, opening(Span(2, 4)))
            await talk.receive()
            talk.send(0, messages.Path(0, None, 0))
        os.kill(leaving.pid, signal.SIGTERM)
        async with asyncio.timeout(SOON):
            while (await asyncio.to_thread(http, leaving, "/readyz"))[0] != 503:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (await connection.info(SOON)).peer.state is PeerState.DRAINING
        late.send(0, opening(Span(2, 4)))
        with pytest.raises(Draining):
            await late.receive()
        running.send(0, hidden(0, 0, 8, Want.TOKEN, cols=64))
        assert isinstance(await running.outcome(), Token)
        running.send(0, Close())
        with pytest.raises(Draining, match="leaving now"):
            await idle.receive()
        assert await asyncio.to_thread(leaving.wait) == 0
        with pytest.raises(DeadLink):
            await connection.info(SOON)
        await connection.close()


def test_a_peer_told_to_leave_while_it_starts_leaves_with_status_0(common: tuple[str, ...]):
    with peer_process(*common, ready_s=None) as starting:
        while "begins" not in starting.stderr:
            assert starting.process.poll() is None, starting.stderr
            time.sleep(0.05)
        os.kill(starting.pid, signal.SIGTERM)
        assert starting.wait() == 0
        assert "Traceback" not in starting.stderr
