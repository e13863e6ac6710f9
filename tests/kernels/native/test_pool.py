"""The engine's threads: who starts them, that they sleep, that they end, and that nobody meets another's numbers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels import reference
from kernels.panels import pack
from kernels.types import GROUP, BlockShape
from tests.support.operands import BlockCase, Numbers
from tests.support.twins import engine, run_block, same_bits

shoal_native = pytest.importorskip("shoal_native", reason="the native kernels are not installed")
linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")

X, WEIGHT = np.linspace(-3, 3, 100 * 96, dtype=np.float32).reshape(100, 96), np.ones(96, np.float32)


def compute(raw: shoal_native.Engine) -> bytes:
    """13 tasks, so that everybody gets some."""
    out = np.zeros_like(X)
    raw.norm(X, WEIGHT, 1e-5, out)
    return out.tobytes()


def tasks() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def state(task: str) -> str:
    """S where it sleeps, R where it runs."""
    return Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0]


def comes_true(condition: Callable[[], bool]) -> bool:
    """A thread that was joined leaves /proc a moment later, and one that goes to sleep needs its turn first."""
    return any(condition() or os.sched_yield() for _ in range(20_000))


@linux
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_engine_has_its_threads_and_ends_them_when_dropped(threads: int):
    before = tasks()
    raw = shoal_native.Engine("portable", threads)
    assert len(tasks() - before) == threads - 1, "the caller is the first"
    compute(raw)
    assert len(tasks() - before) == threads - 1 and raw.threads == threads
    del raw
    assert comes_true(lambda: tasks() == before)


@linux
def test_engines_that_come_and_go_leave_nothing_behind():
    def memory() -> int:
        """Mapped bytes; a thread's stack is 8 MiB of them."""
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    def one() -> bytes:
        return compute(shoal_native.Engine("portable", 8))

    expected = one()
    before, mapped = tasks(), memory()
    assert all(one() == expected for _ in range(100))
    assert comes_true(lambda: tasks() == before)
    assert memory() - mapped < 100 * 8 << 20, "less than one stack for each engine that was"


@linux
def test_workers_sleep_between_calls():
    before = tasks()
    raw = shoal_native.Engine("portable", 5)
    compute(raw)
    workers = tasks() - before
    assert len(workers) == 4
    assert comes_true(lambda: all(state(task) == "S" for task in workers))


def test_many_short_calls_with_more_threads_than_cores():
    """Workers wake late, early, or not at all; every call has all its rows nevertheless."""
    raw = shoal_native.Engine("portable", 5)
    expected, out = compute(shoal_native.Engine("portable", 1)), np.zeros_like(X)
    for rows in (100, 9, 17, 8, 24) * 600:
        out[:] = np.nan
        raw.norm(X[:rows], WEIGHT, 1e-5, out[:rows])
        assert out[:rows].tobytes() == expected[: rows * 96 * 4]


@pytest.mark.parametrize("threads", [1, 3])
def test_four_callers_at_once_take_turns(threads: int):
    """They share the scratch memory, and each has operands of another size."""
    kernels = engine("portable", threads)
    cases = []
    for i in range(4):
        shape = BlockShape(2 * (i + 1), 2, 24, 1e-5)
        cases.append(BlockCase(i, 64 + 40 * i, 50 + 30 * i, shape, ((30 * i, 1), (0, 9 - 2 * i))).make())
    products = [
        (reference.quantize(Numbers(i).normal(7 + i, 200), GROUP), pack(Numbers(i).linear(150, 200))) for i in range(4)
    ]
    expected = [run_block(reference, case.fresh()) for case in cases]
    sums = [kernels.linear(*operands) for operands in products]
    together = threading.Barrier(4)

    def caller(i: int) -> bool:
        together.wait()
        return all(
            same_bits(run_block(kernels, cases[i].fresh()), expected[i])
            and same_bits(kernels.linear(*products[i]), sums[i])
            for _ in range(25)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(caller, range(4)))


def test_a_call_lets_go_of_the_gil():
    """Another thread runs while one computes. Python would not take the GIL away for 100 s, and a caller that has let
    go of it cannot return before it is free again: so who sees the call begun and not ended has got it from the call.
    Arrays are numpy's, because torch lets go of it too.
    """
    raw = shoal_native.Engine("portable", 1)
    x, weight = np.ones((4000, 1024), np.float32), np.ones(1024, np.float32)
    out, interval, begun = np.empty_like(x), sys.getswitchinterval(), False

    def call() -> None:
        nonlocal begun
        begun = True
        raw.norm(x, weight, 1e-5, out)
        begun = False

    sys.setswitchinterval(100)
    try:
        seen = False
        for _ in range(50):  # on a busy machine this thread may wake too late
            caller = threading.Thread(target=call)
            caller.start()
            seen = begun
            caller.join()
            if seen:
                break
    finally:
        sys.setswitchinterval(interval)
    assert seen


def test_an_error_leaves_the_engine_as_it_was():
    raw = shoal_native.Engine("portable", 3)
    expected = compute(raw)
    for _ in range(20):
        with pytest.raises(ValueError, match="weight"):
            raw.norm(X, WEIGHT[:5], 1e-5, X)
        assert compute(raw) == expected


def test_a_process_ends_while_engines_are_alive():
    code = """
import gc, threading
import numpy as np
import shoal_native as native
x, out = np.ones((100, 96), np.float32), np.zeros((100, 96), np.float32)
engines = [native.Engine(name, threads) for name in native.variants() for threads in (1, 2, 8)]
circle = [engines, native.Rows([((0,), 0, 1)])]
circle.append(circle)  # for the garbage collector, if anybody
for engine in engines:
    engine.norm(x, np.ones(96, np.float32), 1e-5, out)
print(len(engines), out.sum())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and ended.stdout.startswith(str(3 * len(shoal_native.variants())))
    assert ended.stderr == ""


def test_a_process_ends_while_a_daemon_thread_computes():
    """Python 3.11 throws such a thread out of whatever C++ it is in, which ends the process if C++ lets it happen."""
    code = """
import threading
import numpy as np
import shoal_native as native
engine, begun = native.Engine("portable", 3), threading.Event()
x, out, weight = np.ones((2000, 960), np.float32), np.zeros((2000, 960), np.float32), np.ones(960, np.float32)
def compute():
    while True:
        engine.norm(x, weight, 1e-5, out)
        begun.set()
threading.Thread(target=compute, daemon=True).start()
begun.wait()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_results_are_there_when_a_call_returns():
    """The last task of a call may be a worker's: its rows are written before the caller goes on."""
    kernels = engine("portable", 5)
    x = torch.linspace(-2, 2, 130 * 64).view(130, 64)
    expected = reference.quantize(x, GROUP)
    for _ in range(300):
        found = kernels.quantize(x, GROUP)
        assert torch.equal(found.values, expected.values) and same_bits(found.scale, expected.scale)
