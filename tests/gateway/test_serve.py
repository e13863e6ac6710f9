"""The command itself, as a process: joins a real swarm over its DHT, answers, and leaves when told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from dashboard import web
from gateway.serve import main
from peer.local import ROOT, LocalPeer, LocalSwarm
from swarm.address import Address

WISH = {"prompt": "def fib(n):", "max_tokens": 200, "temperature": 0, "ignore_eos": True}


class Gateway:
    """``python -m gateway`` on a free port."""

    def __init__(self, join: list[str], *arguments: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "--listen", "127.0.0.1:0", "--join", *join, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, env={**os.environ}, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())
        self.url: str = self.ready["http"]

    def end(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def swarm() -> Iterator[list[LocalPeer]]:
    with LocalSwarm() as local:
        yield local.start(("0:12", "12:24"))


@pytest.fixture
def gateway(swarm: list[LocalPeer]) -> Iterator[Gateway]:
    made = Gateway(swarm[0].join)
    yield made
    made.end()


@pytest.mark.swarm
def test_a_gateway_answers_for_a_swarm_and_leaves_after_its_last_answer(gateway: Gateway):
    assert gateway.ready["event"] == "ready" and len(gateway.ready["models"]) == 1
    with openai.OpenAI(base_url=gateway.ready["api"], api_key="none") as client:
        model = client.models.list().data[0].id
        said = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=5)
        assert said.usage is not None and said.usage.completion_tokens <= 5
    with httpx.Client(base_url=gateway.url, timeout=60) as http:
        whole = http.post("/v1/completions", json=WISH).json()["choices"][0]["text"]
        with http.stream("POST", "/v1/completions", json={**WISH, "stream": True}) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            gateway.process.send_signal(signal.SIGTERM)
            rest = [line for line in (first, *lines) if line]
        assert rest[-1] == "data: [DONE]"
        text = "".join(json.loads(line[6:])["choices"][0]["text"] for line in rest[:-1])
        assert text == whole
    assert gateway.process.wait(20) == 0


@pytest.mark.swarm
def test_a_second_signal_ends_it_at_once(gateway: Gateway):
    with (
        httpx.Client(base_url=gateway.url, timeout=60) as http,
        http.stream("POST", "/v1/completions", json={**WISH, "max_tokens": 1500, "stream": True}) as stream,
    ):
        lines = stream.iter_lines()  # (given up, it would close the stream)
        next(lines)
        gateway.process.send_signal(signal.SIGTERM)
        while http.get("/readyz").status_code == 200:
            pass
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(20) == 130


@pytest.mark.swarm
def test_a_hangup_reads_the_keys_again(swarm: list[LocalPeer], tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text("ann sk-ann-secret")
    made = Gateway(swarm[0].join, "--keys", str(path))
    try:
        with httpx.Client(base_url=made.url, timeout=60) as http:

            def status(key: str) -> int:
                return http.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code

            assert (status("sk-ann-secret"), status("sk-bob-secret")) == (200, 401)
            path.write_text("bob sk-bob-secret")
            made.process.send_signal(signal.SIGHUP)
            while status("sk-bob-secret") != 200:
                assert made.process.poll() is None
            assert status("sk-ann-secret") == 401
    finally:
        made.end()


def test_no_answer_waits_for_an_acknowledgement():
    with web.listening(Address("127.0.0.1", 0)) as sock:
        with socket.create_connection(sock.getsockname()):
            accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        maddr = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"
        assert main(["--join", maddr, "--listen", f"127.0.0.1:{port}", "--log-level", "error"]) == 4
    assert capsys.readouterr().err.startswith(f"shoal: cannot listen on 127.0.0.1:{port}")
    asyncio.set_event_loop(None)
