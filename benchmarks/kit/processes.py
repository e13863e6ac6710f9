"""What the kernel and a peer's own HTTP page say of a process. Linux; touches nothing."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

HTTP_TIMEOUT_S = 5.0


def resident_bytes(pid: int) -> int:
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The most that was ever resident."""
    return _status(pid, "VmHWM")


def file_handles(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """Processor time of all its threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def health(address: str, path: str = "/healthz") -> dict[str, Any]:
    """The JSON of a peer's ``--http`` page, or of a gateway. Raises OSError while nobody answers, or with no."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=HTTP_TIMEOUT_S) as answer:
        return json.load(answer)


def pages_used(address: str) -> int:
    """Pages that Seats hold, from ``/metrics``. Raises OSError while nobody answers, LookupError before it is ready."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=HTTP_TIMEOUT_S) as answer:
        used = read_gauge(answer.read().decode(), "shoal_peer_pages", 'state="used"')
    if used is None:
        raise LookupError(f"the peer at {address} says nothing of its pages yet")
    return used


def read_figure(url: str, name: str) -> float:
    """One value without labels from ``/metrics``. Raises OSError while nobody answers, LookupError where it is not."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=HTTP_TIMEOUT_S) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
    raise LookupError(f"{url}/metrics has no {name}")


def read_gauge(text: str, name: str, label: str) -> int | None:
    """One value of what Prometheus reads."""
    for line in text.splitlines():
        if line.startswith(f"{name}{{{label}}} "):
            return int(float(line.split()[-1]))
    return None


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) << 10
    raise ProcessLookupError(f"process {pid} has ended: the kernel tells no {key} of it")
