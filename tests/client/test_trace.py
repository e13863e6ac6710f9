"""Where the time went: from tokens with timings to steps, medians and stretches that fill each step exactly."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.config import PathShape
from client.trace import HopTrace, Kind, StepTrace, Trace, Tracer, layout, num_trips
from proto.messages import Timing, Token
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.route import Hop, Route
from swarm.span import Span


def peer(name: str, span: Span) -> PeerInfo:
    model = ModelRef("sample", "f" * 32, 24)
    return PeerInfo(name * 32, 1, model, span, "127.0.0.1:4000", "c8", PeerState.READY, "0", 64, 64, 0, 0, 0.001, 1.0)


def route(*names: str) -> Route:
    spans = [Span(8 * index, 8 * index + 8) for index in range(len(names))]
    return Route(tuple(Hop(peer(name, span), span) for name, span in zip(names, spans, strict=True)))


def token(step: int, *timings: tuple[int, float, float]) -> Token:
    return Token(step, step + 9, 7, timings=tuple(Timing(*timing) for timing in timings))


def hop(name: str, start: int, queue_s: float, compute_s: float) -> HopTrace:
    return HopTrace(name * 32, Span(start, start + 8), queue_s, compute_s)


STEP = StepTrace(3, 1, 0.1, (hop("a", 0, 0.01, 0.02), hop("b", 8, 0.0, 0.03)))


def test_the_network_is_what_no_hop_accounts_for():
    assert STEP.busy_s == pytest.approx(0.06)
    assert STEP.network_s == pytest.approx(0.04)
    assert STEP.length_s == 0.1


def test_hops_that_report_more_than_the_client_saw_leave_nothing_to_the_network():
    step = StepTrace(3, 1, 0.05, STEP.hops)
    assert step.network_s == 0.0
    assert step.length_s == pytest.approx(0.06)


def test_every_token_makes_a_step_from_the_token_before_it():
    tracer = Tracer(10.0)
    tracer.hear(token(0, (0, 0.1, 0.2), (8, 0.3, 0.4)), route("a", "b"), 12.0)
    tracer.hear(token(1, (0, 0.0, 0.1), (8, 0.0, 0.1)), route("a", "c"), 12.5)
    trace = tracer.trace("chain")
    assert trace == Trace(
        (
            StepTrace(0, 1, 2.0, (hop("a", 0, 0.1, 0.2), hop("b", 8, 0.3, 0.4))),
            StepTrace(1, 1, 0.5, (hop("a", 0, 0.0, 0.1), hop("c", 8, 0.0, 0.1))),
        ),
        "chain",
    )


def test_drafted_tokens_of_one_step_are_one_step_until_the_last_of_them():
    tracer, path = Tracer(0.0), route("a")
    tracer.hear(token(0, (0, 0.0, 0.5)), path, 1.0)
    for now_s in (1.25, 1.5, 2.0):
        tracer.hear(token(4, (0, 0.0, 0.1)), path, now_s)
    tracer.hear(token(5, (0, 0.0, 0.1)), path, 2.5)
    assert [(step.step, step.tokens, step.total_s) for step in tracer.trace("ring").steps] == [
        (0, 1, 1.0),
        (4, 3, 1.0),
        (5, 1, 0.5),
    ]


@pytest.mark.parametrize(
    "timings",
    [
        (),
        ((0, 0.1, 0.1),),
        ((8, 0.1, 0.1), (0, 0.1, 0.1)),
        ((0, 0.1, 0.1), (8, 0.1, 0.1), (16, 0.1, 0.1)),
        ((0, 0.1, 0.1), (8, math.nan, 0.1)),
        ((0, 0.1, 0.1), (8, 0.1, math.inf)),
        ((0, -0.1, 0.1), (8, 0.1, 0.1)),
    ],
)
def test_timings_that_are_not_those_of_the_route_are_not_believed_and_the_time_is_kept(
    timings: tuple[tuple[int, float, float], ...],
):
    tracer = Tracer(0.0)
    tracer.hear(token(0, *timings), route("a", "b"), 1.0)
    (step,) = tracer.trace("ring").steps
    assert step == StepTrace(0, 1, 1.0, ())
    assert layout(step, "ring") == ()


def decode(step: int, total_s: float, queue_s: float = 0.0, compute_s: float = 0.01, name: str = "a") -> StepTrace:
    return StepTrace(step, 1, total_s, (hop(name, 0, queue_s, compute_s),))


def test_the_median_step_is_one_that_happened_and_not_the_prompts():
    steps = (decode(0, 9.0), decode(1, 0.3), decode(2, 0.1), decode(3, 0.2), StepTrace(4, 1, 0.15, ()))
    assert Trace(steps, "ring").median_step() == steps[3]
    assert Trace(steps[:3], "ring").median_step() == steps[2], "of two, the faster"
    assert Trace(steps[:1], "ring").median_step() == steps[0], "there is no other"
    assert Trace(steps[4:], "ring").median_step() is None
    assert Trace((), "ring").median_step() is None


def test_medians_are_per_hop_and_of_the_route_that_most_steps_took():
    steps = (
        decode(0, 9.0, 5.0, 5.0),
        decode(1, 0.1, 0.01, 0.06),
        decode(2, 0.1, 0.03, 0.04),
        decode(3, 0.1, 0.02, 0.05),
        decode(4, 0.9, 0.8, 0.1, name="b"),
    )
    assert Trace(steps, "ring").median_hops() == (hop("a", 0, 0.02, 0.05),)
    assert Trace((), "ring").median_hops() == ()


@pytest.mark.parametrize(("shape", "trips"), [("star", 4), ("chain", 3), ("ring", 2)])
def test_the_network_is_spread_evenly_over_the_trips_of_the_shape(shape: PathShape, trips: int):
    assert num_trips(shape, 2) == trips
    shares = [s.end_s - s.start_s for s in layout(STEP, shape) if s.kind is Kind.NETWORK]
    assert shares == pytest.approx([0.04 / trips] * trips)


def test_a_step_is_laid_out_in_the_order_of_its_way():
    def order(shape: PathShape) -> str:
        return " ".join(f"{stretch.kind.value[0]}{stretch.hop}" for stretch in layout(STEP, shape))

    assert order("ring") == "n0 q0 c0 n1 q1 c1"
    assert order("chain") == "n0 q0 c0 n1 q1 c1 n1"
    assert order("star") == "n0 q0 c0 n0 n1 q1 c1 n1"


SECONDS = st.floats(0.0, 100.0)


@given(st.sampled_from(get_args(PathShape)), SECONDS, st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=5))
def test_stretches_touch_and_fill_the_step_exactly(shape: PathShape, total_s: float, times: list[tuple[float, float]]):
    step = StepTrace(3, 1, total_s, tuple(hop("a", 8 * index, *each) for index, each in enumerate(times)))
    stretches = layout(step, shape)
    assert stretches[0].start_s == 0.0 and stretches[-1].end_s == step.length_s
    for left, right in pairwise(stretches):
        assert left.start_s <= left.end_s == right.start_s <= right.end_s
    sums = [sum(s.end_s - s.start_s for s in stretches if s.kind is kind) for kind in Kind]
    expected = [step.network_s, sum(queue_s for queue_s, _ in times), sum(compute_s for _, compute_s in times)]
    assert sums == pytest.approx(expected, abs=1e-9)
