from __future__ import annotations

import pytest

from peer.engine import Engine
from peer.pages import PagePool
from peer.probe import MEASURED_STEPS, WARM_UP_STEPS, measure_block_s
from peer.scheduler import Scheduler
from peer.seats import Seats
from swarm.clock import VirtualClock
from swarm.errors import BadNumbers
from swarm.span import Span
from tests.support.compute import FakeRunner
from tests.support.seats import terms


class SlowRunner(FakeRunner):
    """Takes 0.2, 0.4, 0.6, … seconds for its steps, and much longer for the first one."""

    def __init__(self, clock: VirtualClock):
        super().__init__()
        self._clock = clock

    def run(self, works):
        self._clock.advance(0.2 * len(self.batches) or 30.0)
        return super().run(works)


@pytest.mark.parametrize("span", [Span(0, 8), Span(2, 4)])
async def test_the_median_step_is_shared_out_among_the_blocks_and_the_seat_given_back(span: Span):
    clock, pool = VirtualClock(), PagePool(8)
    seats, engine, runner = (
        Seats(terms(span=span), pool, clock),
        Engine(Scheduler(prefill_tokens=8, max_decodes=8)),
        SlowRunner(clock),
    )
    assert await measure_block_s(seats, engine, runner, 2, clock) == pytest.approx(0.6 / len(span))
    assert len(runner.batches) == WARM_UP_STEPS + MEASURED_STEPS
    assert (pool.used, len(seats)) == (0, 0)
    engine.close()


async def test_a_pool_of_one_page_is_enough():
    clock = VirtualClock()
    seats, engine = (
        Seats(terms(page_size=1, max_positions=3), PagePool(1), clock),
        Engine(Scheduler(prefill_tokens=8, max_decodes=8)),
    )
    assert await measure_block_s(seats, engine, SlowRunner(clock), 2, clock) > 0
    engine.close()


async def test_a_peer_whose_first_step_fails_does_not_come_up():
    clock, pool = VirtualClock(), PagePool(8)
    runner = FakeRunner()
    runner.faults[bytes(16)] = BadNumbers("NaN")
    engine = Engine(Scheduler(prefill_tokens=8, max_decodes=8))
    with pytest.raises(BadNumbers):
        await measure_block_s(Seats(terms(), pool, clock), engine, runner, 2, clock)
    assert pool.used == 0
    engine.close()
