"""deploy/Containerfile, what it may see, and its health check. Without an engine: one is read, the other run."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, ROOT

TEXT = (DEPLOY / "Containerfile").read_text()
LINES = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", TEXT)).splitlines()
LAST = LINES[max(number for number, line in enumerate(LINES) if line.startswith("FROM ")) :]
ALLOWED = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}


def one(lines: list[str], instruction: str) -> str:
    (line,) = [line for line in lines if line.startswith(f"{instruction} ")]
    return line.removeprefix(f"{instruction} ").strip()


def test_the_last_stage_has_no_compiler_and_nobody_is_root():
    assert not re.search(r"\b(g\+\+|gcc|clang|cmake|build-essential|pip)\b", " ".join(LAST))
    assert one(LAST, "USER") == "10001:10001"  # a number: Kubernetes' runAsNonRoot cannot judge a name
    assert LAST.index("USER 10001:10001") > max(n for n, line in enumerate(LAST) if line.startswith("RUN "))
    assert [line for line in LAST if line.startswith("COPY --from=builder")] == [
        "COPY --from=builder /opt/shoal /opt/shoal"
    ]


def test_signals_reach_the_process_and_files_go_where_they_may():
    assert one(LAST, "ENTRYPOINT") == '["/usr/bin/tini", "--", "shoal"]' and " tini " in " ".join(LAST)
    assert one(LAST, "HEALTHCHECK").endswith('CMD ["shoal-health"]')
    assert one(LAST, "VOLUME") == "/var/lib/shoal"
    env = one(LAST, "ENV")
    for wanted in ("OMP_WAIT_POLICY=PASSIVE", "HOME=/var/lib/shoal", "XDG_CACHE_HOME=/var/lib/shoal/"):
        assert wanted in env


def test_the_versions_are_those_that_were_tested_and_the_kernels_are_there():
    assert "--constraint constraints.txt" in TEXT and "import shoal_native" in TEXT
    assert re.search(r"^torch==\d", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    tag = re.search(r"ARG PYTHON=(\d+)\.(\d+)-slim-(\w+)", TEXT)
    assert tag and (int(tag[1]), int(tag[2])) >= (3, 11)


def test_a_build_sees_every_package_and_nothing_private():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["scikit-build"]["wheel"]["packages"])
    assert ALLOWED - packages == {"LICENSE", "README.md", "constraints.txt", "pyproject.toml", "deploy/healthcheck.py"}
    assert packages <= ALLOWED
    assert (ROOT / ".containerignore").read_text() == (DEPLOY / "Containerfile.dockerignore").read_text()
    copied = {name for line in LINES if line.startswith("COPY") and "--from" not in line for name in line.split()[1:-1]}
    for name in copied - {"."}:
        assert name.startswith("--") or (name in ALLOWED and (ROOT / name).exists()), name


def test_a_linter_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install .[dev]")
    done = subprocess.run([hadolint, DEPLOY / "Containerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def check(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(DEPLOY / "healthcheck.py")], capture_output=True, text=True, timeout=30,
        env={"SHOAL_HEALTH": url, "http_proxy": "http://nowhere.invalid:1"},
    )  # fmt: skip


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/readyz"
        server.shutdown()


def test_the_health_check_says_what_the_process_says():
    with answering(200) as url:
        assert check(url).returncode == 0
    with answering(503) as url:
        sick = check(url)
    assert (sick.returncode, sick.stderr) == (1, f"{url} answered 503\n")
    gone = check(url)
    assert gone.returncode == 1 and "refused" in gone.stderr and gone.stderr.count("\n") == 1


@pytest.mark.parametrize("role", ["9100", "8000"])
def test_the_ports_of_every_role_are_named(role: str):
    assert role in one(LAST, "EXPOSE").split()
