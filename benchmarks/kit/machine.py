"""The machine under a benchmark: what it is, and how fast it can read memory. Compares nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.memory import huge

BUFFER_BYTES = 512 << 20  # far beyond any cache
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


class ReadBandwidth:
    """The machine's plain read bandwidth: the sum of a buffer far larger than the caches, with ``threads`` threads.

    A native implementation of the arithmetic reads with its own threads, wide loads and additions and nothing else;
    the reference has torch do it, and ``how`` says so.
    """

    def __init__(self, arithmetic: Any, threads: int, num_bytes: int = BUFFER_BYTES):
        self.threads = threads
        count = num_bytes // 64 * 64
        memory = huge(count)  # as weights are, and faster to read than small pages
        self._buffer = torch.empty(count, dtype=torch.uint8) if memory is None else memory
        self._buffer.fill_(1)  # written, or all pages would be one
        self._native_sum: Callable[[Tensor], int] | None = getattr(arithmetic, "read_sum", None)
        self.how = "torch's sum" if self._native_sum is None else "native sum"

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    def read(self) -> int:
        """One pass over the buffer."""
        if self._native_sum is not None:
            return self._native_sum(self._buffer)
        torch.set_num_threads(self.threads)
        return int(self._buffer.view(torch.int64).sum())

    def seconds(self) -> float:
        begun = time.perf_counter()
        self.read()
        return time.perf_counter() - begun


def machine() -> dict[str, Any]:
    """What a result has to be kept with."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "flags": [flag for flag in _FLAGS if flag in _cpu_flags()],
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
    }


def with_default_openmp(module: str) -> None:
    """Start this benchmark over without OMP_WAIT_POLICY, if it is set: our peers want threads that sleep at barriers,
    the yardsticks are faster when they spin. OpenMP reads it once, when torch is loaded.
    """
    if os.environ.pop("OMP_WAIT_POLICY", None) is not None:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or "unknown"


def _cpu_flags() -> list[str]:
    return (_cpuinfo("flags") or _cpuinfo("Features")).split()


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")
