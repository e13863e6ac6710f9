from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import pytest

from peer.engine import Engine, Output
from peer.scheduler import Scheduler
from peer.seat import Seat
from proto.messages import Done, Token, Want
from swarm.errors import BadNumbers, Internal
from tests.support.compute import FakeRunner
from tests.support.seats import seat, tokens


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(Scheduler(prefill_tokens=16, max_decodes=8))
    yield engine
    engine.close()


def named(name: str) -> Seat:
    one = seat()
    one.session = name.encode()
    return one


async def take(outputs: AsyncIterator[list[Output]]) -> list[Output]:
    async with asyncio.timeout(10):
        return await anext(outputs)


async def test_a_submitted_chunk_comes_out_with_its_answer(engine: Engine):
    one, chunk = named("a"), tokens(0, 0, 4, Want.NOTHING)
    engine.submit(one, chunk)
    ((work, answer),) = await take(engine.outputs(FakeRunner()))
    assert work.seat is one and work.chunk is chunk and answer == Done(0)


async def test_an_idle_engine_wakes_when_something_comes(engine: Engine):
    waiting = asyncio.ensure_future(take(engine.outputs(FakeRunner())))
    await asyncio.sleep(0)
    engine.submit(named("a"), tokens(0, 0))
    ((_, answer),) = await waiting
    assert answer == Token(0, 1, 1)


async def test_what_comes_while_a_batch_runs_is_batched_together_next(engine: Engine):
    runner = FakeRunner()
    runner.hold()
    outputs = engine.outputs(runner)
    engine.submit(named("a"), tokens(0, 0))
    first = asyncio.ensure_future(take(outputs))
    await runner.started()
    for name in "bcd":
        engine.submit(named(name), tokens(0, 0))
    runner.release()
    assert len(await first) == 1
    assert len(await take(outputs)) == 3
    assert [len(batch) for batch in runner.batches] == [1, 3]


async def test_all_computing_is_done_on_one_thread_that_is_not_the_loops(engine: Engine):
    runner = FakeRunner()
    outputs = engine.outputs(runner)
    for step in range(5):
        engine.submit(named("a"), tokens(step, step))
        await take(outputs)
    other = await engine.call(lambda: threading.current_thread().name)
    assert runner.threads == {other} != {threading.current_thread().name}


async def test_the_loop_goes_on_while_a_batch_runs(engine: Engine):
    runner = FakeRunner()
    runner.hold()
    engine.submit(named("a"), tokens(0, 0))
    running = asyncio.ensure_future(take(engine.outputs(runner)))
    await runner.started()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not running.done()
    runner.release()
    await running


async def test_an_exception_faults_only_the_seats_of_its_batch_and_the_engine_goes_on(engine: Engine):
    runner = FakeRunner()
    outputs = engine.outputs(runner)
    runner.error = RuntimeError("broken kernel")
    engine.submit(named("a"), tokens(0, 0))
    engine.submit(named("b"), tokens(0, 0))
    failed = await take(outputs)
    assert [type(answer) for _, answer in failed] == [Internal, Internal]
    assert "broken kernel" not in str(failed[0][1]), "what went wrong inside is for the log, not for strangers"
    runner.error = None
    engine.submit(named("c"), tokens(0, 0))
    ((_, answer),) = await take(outputs)
    assert answer == Token(0, 1, 1)


async def test_the_traceback_of_a_failed_batch_is_logged(engine: Engine):
    from structlog.testing import capture_logs

    runner = FakeRunner()
    runner.error = RuntimeError("broken kernel")
    engine.submit(named("a"), tokens(0, 0))
    with capture_logs() as entries:
        await take(engine.outputs(runner))
    assert [(entry["event"], entry["log_level"], entry["exc_info"]) for entry in entries] == [
        ("batch failed", "error", True)
    ]
    json.dumps(entries)


async def test_a_fault_of_one_seat_leaves_its_batch_alone(engine: Engine):
    runner = FakeRunner()
    runner.faults[b"b"] = BadNumbers("NaN")
    for name in "abc":
        engine.submit(named(name), tokens(0, 0))
    answers = [answer for _, answer in await take(engine.outputs(runner))]
    assert [type(answer) for answer in answers] == [Token, BadNumbers, Token]


async def test_a_discarded_seat_is_not_computed(engine: Engine):
    gone = named("gone")
    engine.submit(gone, tokens(0, 0))
    engine.submit(named("a"), tokens(0, 0))
    engine.discard(gone)
    assert [work.seat.session for work, _ in await take(engine.outputs(FakeRunner()))] == [b"a"]


async def test_queue_tokens_count_what_waits_and_what_is_computed(engine: Engine):
    runner = FakeRunner()
    runner.hold()
    engine.submit(named("a"), tokens(0, 0, 4))
    assert engine.queue_tokens == 4
    running = asyncio.ensure_future(take(engine.outputs(runner)))
    await runner.started()
    engine.submit(named("b"), tokens(0, 0))
    assert engine.queue_tokens == 5
    runner.release()
    await running
    assert engine.queue_tokens == 1
