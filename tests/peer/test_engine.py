from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from peer.engine import Engine, Output
from peer.grouping import Grouping
from peer.housing import Housed
from peer.scheduler import Scheduler, Work
from peer.seat import Seat
from proto.messages import Token, Want
from swarm.clock import VirtualClock
from swarm.errors import BadNumbers, Internal
from swarm.span import Span
from tests.support.compute import FakeRunner
from tests.support.seats import opening, seat, tokens


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(Scheduler(prefill_tokens=16, max_decodes=8))
    yield engine
    engine.close()


def everyone(works: Sequence[Work[Seat]], waits: Callable[[Seat], bool]) -> Housed:
    """There are Pages enough."""
    return Housed(tuple(works), (), ())


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
    (output,) = await take(engine.outputs(FakeRunner(), everyone))
    assert output.work.seat is one and output.work.chunk is chunk and output.answer == ()


async def test_an_idle_engine_wakes_when_something_comes(engine: Engine):
    waiting = asyncio.ensure_future(take(engine.outputs(FakeRunner(), everyone)))
    await asyncio.sleep(0)
    engine.submit(named("a"), tokens(0, 0))
    (output,) = await waiting
    assert output.answer == (Token(0, 1, 1),)


async def test_what_comes_while_a_batch_runs_is_batched_together_next(engine: Engine):
    runner = FakeRunner()
    runner.hold()
    outputs = engine.outputs(runner, everyone)
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
    outputs = engine.outputs(runner, everyone)
    for step in range(5):
        engine.submit(named("a"), tokens(step, step))
        await take(outputs)
    other = await engine.call(lambda: threading.current_thread().name)
    assert runner.threads == {other} != {threading.current_thread().name}


async def test_the_loop_goes_on_while_a_batch_runs(engine: Engine):
    runner = FakeRunner()
    runner.hold()
    engine.submit(named("a"), tokens(0, 0))
    running = asyncio.ensure_future(take(engine.outputs(runner, everyone)))
    await runner.started()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not running.done()
    runner.release()
    await running


async def test_an_exception_faults_only_the_seats_of_its_batch_and_the_engine_goes_on(engine: Engine):
    runner = FakeRunner()
    outputs = engine.outputs(runner, everyone)
    runner.error = RuntimeError("broken kernel")
    engine.submit(named("a"), tokens(0, 0))
    engine.submit(named("b"), tokens(0, 0))
    failed = await take(outputs)
    assert [type(output.answer) for output in failed] == [Internal, Internal]
    assert "broken kernel" not in str(failed[0].answer), "what went wrong inside is for the log, not for strangers"
    runner.error = None
    engine.submit(named("c"), tokens(0, 0))
    (output,) = await take(outputs)
    assert output.answer == (Token(0, 1, 1),)


async def test_the_traceback_of_a_failed_batch_is_logged(engine: Engine):
    from structlog.testing import capture_logs

    runner = FakeRunner()
    runner.error = RuntimeError("broken kernel")
    engine.submit(named("a"), tokens(0, 0))
    with capture_logs() as entries:
        await take(engine.outputs(runner, everyone))
    assert [(entry["event"], entry["log_level"], entry["exc_info"]) for entry in entries] == [
        ("batch failed", "error", True)
    ]
    json.dumps(entries)


async def test_a_fault_of_one_seat_leaves_its_batch_alone(engine: Engine):
    runner = FakeRunner()
    runner.faults[b"b"] = BadNumbers("NaN")
    for name in "abc":
        engine.submit(named(name), tokens(0, 0))
    answers = [output.answer for output in await take(engine.outputs(runner, everyone))]
    assert [type(answer) for answer in answers] == [tuple, BadNumbers, tuple]


async def test_a_discarded_seat_is_not_computed(engine: Engine):
    gone = named("gone")
    engine.submit(gone, tokens(0, 0))
    engine.submit(named("a"), tokens(0, 0))
    engine.discard(gone)
    assert [output.work.seat.session for output in await take(engine.outputs(FakeRunner(), everyone))] == [b"a"]


async def test_queue_tokens_count_what_waits_and_what_is_computed(engine: Engine):
    runner = FakeRunner()
    runner.hold()
    engine.submit(named("a"), tokens(0, 0, 4))
    assert engine.queue_tokens == 4
    running = asyncio.ensure_future(take(engine.outputs(runner, everyone)))
    await runner.started()
    engine.submit(named("b"), tokens(0, 0))
    assert engine.queue_tokens == 5
    runner.release()
    await running
    assert engine.queue_tokens == 1


class Slow(FakeRunner):
    """Takes 2 seconds, and half a second for each token."""

    def __init__(self, clock: VirtualClock):
        super().__init__()
        self._clock = clock

    def run(self, works):
        self._clock.advance(2.0 + 0.5 * sum(work.chunk.count for work in works))
        return super().run(works)


async def test_an_output_says_where_its_time_went():
    clock = VirtualClock()
    engine = Engine(Scheduler(prefill_tokens=16, max_decodes=8), clock)
    outputs = engine.outputs(Slow(clock), everyone)
    engine.submit(named("a"), tokens(0, 0, 20))
    clock.advance(1.0)
    engine.submit(named("b"), tokens(0, 0, 6))
    clock.advance(1.0)
    (first,) = await take(outputs)
    assert (first.queue_s, first.compute_s, first.work.chunk.count) == (2.0, 10.0, 16)
    second = await take(outputs)
    assert [(one.work.seat.session, one.queue_s) for one in second] == [(b"a", 10.0), (b"b", 11.0)]
    assert [one.compute_s for one in second] == [7.0, 7.0]
    engine.close()


async def test_the_scheduler_hears_how_long_a_batch_took_but_for_one_that_failed():
    clock, scheduler = VirtualClock(), Scheduler[Seat](prefill_tokens=16, max_decodes=8)
    engine, runner = Engine(scheduler, clock), Slow(clock)
    outputs, one = engine.outputs(runner, everyone), named("a")
    runner.error = RuntimeError("broken kernel")
    engine.submit(one, tokens(0, 0))
    await take(outputs)
    runner.error = None
    engine.submit(one, tokens(0, 0))
    await take(outputs)
    assert scheduler.pace.decode_s(1) is None
    engine.submit(one, tokens(0, 0))
    await take(outputs)
    assert scheduler.pace.decode_s(1) == 2.5, "heard once the outputs were on their way"
    engine.close()


class InGroups(Grouping):
    def grouped(self, sessions: int, *, prefill_waits: bool = False) -> bool:
        return True


@pytest.mark.parametrize(("start", "sizes"), [(0, [2, 2]), (1, [4])])
async def test_a_seat_is_scheduled_by_the_length_of_its_route_and_whether_that_begins_here(
    start: int, sizes: list[int]
):
    scheduler = Scheduler[Seat](prefill_tokens=16, max_decodes=8, grouping=InGroups())
    engine = Engine(scheduler, VirtualClock())
    outputs = engine.outputs(FakeRunner(), everyone)
    for name in "abcd":
        one = seat(request=opening(num_hops=2, span=Span(start, 8)))
        one.session, one.client = name.encode(), name
        engine.submit(one, tokens(0, 0))
    assert [len(await take(outputs)) for _ in sizes] == sizes
    engine.close()


class Holding(Scheduler[Seat]):
    """Gives its Batch only when it is asked for the second time."""

    asked = 0

    def next_batch(self, now: float = 0.0):
        self.asked += 1
        self.look_again_s = 0.01 if self.asked == 1 else None
        return None if self.asked == 1 else super().next_batch(now)


async def test_chunks_that_are_held_back_are_asked_for_again():
    engine = Engine(Holding(prefill_tokens=16, max_decodes=8))
    engine.submit(named("a"), tokens(0, 0))
    assert len(await take(engine.outputs(FakeRunner(), everyone))) == 1
    engine.close()


async def test_works_without_pages_wait_for_the_next_batch(engine: Engine):
    full = {b"b"}

    def house(works: Sequence[Work[Seat]], waits: Callable[[Seat], bool]) -> Housed:
        go = tuple(work for work in works if work.seat.session not in full)
        return Housed(go, tuple(work for work in works if work not in go), ())

    outputs = engine.outputs(FakeRunner(), house)
    for name in "ab":
        engine.submit(named(name), tokens(0, 0))
    assert [output.work.seat.session for output in await take(outputs)] == [b"a"]
    assert engine.queue_tokens == 1
    waiting = asyncio.ensure_future(take(outputs))
    await asyncio.sleep(0)
    assert not waiting.done(), "no Batch at all, and no busy loop"
    full.clear()
    assert [output.work.seat.session for output in await waiting] == [b"b"]


async def test_pages_are_copied_before_the_batch_on_its_thread(engine: Engine):
    runner, done = FakeRunner(), list[tuple[object, int, str]]()

    def job(pager: object) -> None:
        done.append((pager, len(runner.batches), threading.current_thread().name))

    engine.submit(named("a"), tokens(0, 0))
    await take(engine.outputs(runner, lambda works, waits: Housed(tuple(works), (), (job,))))
    assert done == [(runner, 0, *runner.threads)]


async def test_what_was_rolled_back_while_it_was_computed_does_not_come_out(engine: Engine):
    runner, one = FakeRunner(), named("a")
    runner.hold()
    engine.submit(one, tokens(0, 0))
    engine.submit(named("b"), tokens(0, 0))
    running = asyncio.ensure_future(take(engine.outputs(runner, everyone)))
    await runner.started()
    engine.discard(one)
    runner.release()
    assert [output.work.seat.session for output in await running] == [b"b"]
