"""Fenced blocks of the documentation, and how one is run: for real, in a scratch directory, against a real swarm.

A block of sh, bash or python is run unless a comment above it says ``<!-- not run: why -->``, or it begins a command
with a program of ``ELSEWHERE``. What a reader has to fill in is filled in by ``Place.fill``; that is the whole of it:

- every multiaddr, and MADDR: a join address of the swarm that the test started; PEER_ID: one of its peers;
- 0.0.0.0 and my.host: 127.0.0.1;
- a port that the block itself listens on: a free one; else 8000 and 8080: the gateway that the test started.

Lines that serve run beside the lines after them, which wait for their ready line; in the end they are told to leave,
and have to exit with 0, as every other line has.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SHELLS, PYTHONS = ("sh", "bash", "console"), ("python", "py")
ELSEWHERE = {
    "docker": "needs a container engine",
    "podman": "needs a container engine",
    "kubectl": "needs a cluster",
    "helm": "needs a cluster",
    "sudo": "changes the machine",
    "systemctl": "changes the machine",
    "journalctl": "needs systemd",
}
TIMEOUT_S = 90.0
LEAVE_S = 30.0

_FENCE = re.compile(r"^ *(`{3,})(\w*)[^\n]*\n(.*?)^ *\1 *$", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!--\s*not run:\s*(.*?)\s*-->\s*$", re.DOTALL)
_SERVERS = re.compile(r"(shoal (serve|gateway|dashboard)|python -m (peer\.serve|gateway|dashboard))\b(?!.*--help)")
_MULTIADDR = re.compile(r"/(?:ip4|ip6|dns4?|dns6)/[^/\s'\"]+/tcp/(?:\d+|…)/p2p/[\w…]+")
_LISTENS = re.compile(r"--(?:listen|dht-listen|http|announce)[ =]\S*:(\d+)")
_PRELUDE = re.compile(r"(export |cd |[A-Za-z_]+=\S*$)")


@dataclass(frozen=True, slots=True)
class Block:
    """``reason``: why it is not run; None: it is."""

    page: str  # relative to the repository
    line: int  # of its first line of content
    language: str
    text: str
    reason: str | None

    @property
    def runs(self) -> bool:
        return self.language in SHELLS + PYTHONS and self.reason is None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def read_blocks(page: str, text: str) -> list[Block]:
    blocks: list[Block] = []
    for found in _FENCE.finditer(text):
        marker = _MARKER.search(text[: found.start()].rstrip() + "\n")
        reason = " ".join(marker[1].split()) if marker else None
        language, body = found[2].lower(), found[3]
        if reason is None and language in SHELLS:
            words = {line.split()[0] for line in commands(body) if line.split()}
            reason = next((why for word, why in ELSEWHERE.items() if word in words), None)
        blocks.append(Block(page, text.count("\n", 0, found.start()) + 2, language, body, reason))
    return blocks


def all_blocks() -> list[Block]:
    return [block for path in pages() for block in read_blocks(path.relative_to(ROOT).as_posix(), path.read_text())]


def commands(text: str) -> Iterator[str]:
    """The commands of a shell block: lines, put together where one alone is not complete. Comments are left out."""
    waiting = ""
    for line in text.splitlines():
        if not waiting and (not line.strip() or line.lstrip().startswith("#")):
            continue
        waiting += line.removeprefix("$ ") + "\n"
        if line.endswith("\\") or not _complete(waiting):
            continue
        yield waiting.strip()
        waiting = ""
    if waiting:
        yield waiting.strip()


def _complete(text: str) -> bool:
    return subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).returncode == 0


class Failed(Exception):
    """A command that did not do what the page says."""


@dataclass(slots=True)
class Place:
    """Where blocks are run: one directory a page, a swarm and a gateway for all."""

    directory: Path
    maddr: str
    peer_id: str
    gateway: str  # host:port
    environ: dict[str, str] = field(default_factory=dict)

    def prepare(self, page: str) -> Path:
        """A scratch directory that looks like a checkout to whoever reads."""
        scratch = self.directory / page.replace("/", "-").removesuffix(".md")
        scratch.mkdir(exist_ok=True)
        for name, there in (("model", ROOT / "model"), ("examples", ROOT / "examples"), (".venv", Path(sys.prefix))):
            with suppress(FileExistsError):  # another block of the page was here
                (scratch / name).symlink_to(there)
        return scratch

    def fill(self, text: str) -> str:
        """``text`` with what a reader fills in."""
        text = _MULTIADDR.sub(self.maddr, text)
        text = re.sub(r"\bMADDR\b", self.maddr, text)
        text = re.sub(r"\bPEER_ID\b", self.peer_id, text)
        text = re.sub(r"\b0\.0\.0\.0\b|\bmy\.host\b", "127.0.0.1", text)
        own = {port for command in commands(text) if _SERVERS.search(command) for port in _LISTENS.findall(command)}
        for port in sorted(own):
            text = re.sub(rf":{port}\b", f":{_free_port()}", text)
        return re.sub(r"\b127\.0\.0\.1:(8000|8080)\b", self.gateway, text)

    def run(self, block: Block) -> str:
        """What it wrote. Raises Failed."""
        scratch = self.prepare(block.page)
        environ = {**os.environ, **self.environ, "HOME": str(scratch), "PYTHONPATH": str(ROOT)}
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
        text = self.fill(block.text)
        if block.language in PYTHONS:
            file = scratch / f"block{block.line}.py"
            file.write_text(text)
            return _run([sys.executable, str(file)], scratch, environ)
        return _run_shell(list(commands(text)), scratch, environ)


def missing(block: Block) -> str:
    """A program that the block needs and that is not here; "" where all are."""
    if block.language in PYTHONS:
        return ""
    words = re.findall(r"(?:^|[|;&(]|\$\()\s*([A-Za-z][\w.-]*)(?=\s|$)", block.text, re.MULTILINE)
    known = ("curl", "jq", "openssl", "git")
    return next((word for word in words if word in known and shutil.which(word) is None), "")


def _run_shell(lines: Sequence[str], scratch: Path, environ: dict[str, str]) -> str:
    said: list[str] = []
    prelude = ""
    with ExitStack() as stack:
        servers: list[_Server] = []
        for line in lines:
            if _SERVERS.match(line):
                server = _Server(prelude + "exec " + line, scratch, environ)
                stack.callback(server.end)
                servers.append(server)
                continue
            for server in servers:
                server.ready()
            if _PRELUDE.match(line):
                prelude += line + "\n"
            else:
                said.append(_run(["bash", "-euo", "pipefail", "-c", prelude + line], scratch, environ))
        for server in servers:
            said.append(server.ready())
        for server in servers:
            server.leave()
    return "".join(said)


def _run(command: Sequence[str], scratch: Path, environ: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command, cwd=scratch, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[-1]}\nstill ran after {TIMEOUT_S:g} s: {error.stdout!r}") from None
    if done.returncode != 0 or "Traceback (most" in done.stdout:
        raise Failed(f"{command[-1]}\nended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


class _Server:
    """One that serves until told to leave."""

    def __init__(self, command: str, scratch: Path, environ: dict[str, str]):
        self._command, self._line = command, b""
        self._errors = scratch / f"errors-{id(self)}"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                ["bash", "-c", command], cwd=scratch, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=errors, start_new_session=True,
            )  # fmt: skip

    def ready(self) -> str:
        """Its ready line."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + TIMEOUT_S
        while not self._line.endswith(b"\n"):
            left = deadline - time.monotonic()
            piece = os.read(descriptor, 1) if left > 0 and select.select([descriptor], [], [], left)[0] else b""
            if not piece:
                raise Failed(f"{self._command}\nwas not ready: {self._errors.read_text()[-2000:]}")
            self._line += piece
        if json.loads(self._line)["event"] != "ready":
            raise Failed(f"{self._command}\nsaid {self._line!r} instead of being ready")
        return self._line.decode()

    def leave(self) -> None:
        """SIGTERM, as its supervisor would; it has to end well."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self._command}\nstill ran {LEAVE_S:g} s after SIGTERM") from None
        if status != 0:
            raise Failed(f"{self._command}\nended with {status} after SIGTERM: {self._errors.read_text()[-2000:]}")

    def end(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
