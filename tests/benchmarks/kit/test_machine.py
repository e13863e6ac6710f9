from __future__ import annotations

import sys

import pytest

import kernels
from benchmarks.kit import machine
from benchmarks.kit.machine import ReadBandwidth, with_default_openmp


@pytest.mark.parametrize("name", [None, "reference"])
def test_reading_touches_every_byte_of_the_buffer(name: str | None):
    bandwidth = ReadBandwidth(kernels.select(name, threads=1), 1, 1 << 16)
    before = bandwidth.read()
    for at in (0, 12345, bandwidth.nbytes - 1):
        bandwidth._buffer[at] += 1
        after = bandwidth.read()
        assert after != before
        before = after


def test_a_benchmark_starts_over_without_our_openmp_policy(monkeypatch: pytest.MonkeyPatch):
    started: list[list[str]] = []
    monkeypatch.setattr(machine.os, "execv", lambda path, argv: started.append(argv))
    monkeypatch.setattr(sys, "argv", ["x", "--quick"])
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with_default_openmp("benchmarks.kernels")
    assert started == [[sys.executable, "-m", "benchmarks.kernels", "--quick"]]
    with_default_openmp("benchmarks.kernels")
    assert len(started) == 1
