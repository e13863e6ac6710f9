from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from peer.compute import ComputeThread


async def test_a_call_runs_elsewhere_and_its_result_comes_back():
    thread = ComputeThread("worker")

    def where(number: int, *, plus: int) -> tuple[str, int]:
        return threading.current_thread().name, number + plus

    assert await thread.call(where, 1, plus=2) == ("worker", 3)
    thread.close()


async def test_what_a_call_raises_is_raised_here():
    thread = ComputeThread()
    with pytest.raises(ZeroDivisionError):
        await thread.call(lambda: 1 / 0)
    assert await thread.call(lambda: 7) == 7, "and the thread goes on"
    thread.close()


async def test_calls_run_one_after_the_other_in_order():
    thread, order = ComputeThread(), list[int]()
    await asyncio.gather(*(thread.call(order.append, number) for number in range(50)))
    assert order == list(range(50))
    thread.close()


async def test_a_call_cancelled_before_its_turn_does_not_run():
    thread, go, ran = ComputeThread(), threading.Event(), list[str]()
    first = asyncio.create_task(thread.call(go.wait, 10))
    second = asyncio.create_task(thread.call(ran.append, "second"))
    third = asyncio.create_task(thread.call(ran.append, "third"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, third)
    assert ran == ["third"] and second.cancelled()
    thread.close()


async def test_closing_cancels_what_waits_and_lets_finish_what_runs():
    thread, begun, go = ComputeThread(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def run() -> str:
        loop.call_soon_threadsafe(begun.set)
        go.wait(10)
        return "done"

    running = asyncio.create_task(thread.call(run))
    waiting = asyncio.create_task(thread.call(lambda: "never"))
    await begun.wait()
    thread.close()
    go.set()
    assert await running == "done"
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        await thread.call(lambda: 1)


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)"])
def test_a_process_that_forgot_to_close_it_ends_all_the_same(ending: str):
    program = f"""
import asyncio
from peer.compute import ComputeThread
thread = ComputeThread()
assert asyncio.run(thread.call(lambda: 5)) == 5
{ending}
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, check=False, capture_output=True)
    assert ended.returncode == (3 if ending else 0), ended.stderr
