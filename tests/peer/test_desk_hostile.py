"""Whatever clients and neighbours say, a desk answers with Faults: it neither fails nor leaks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proto.messages import Advance, Body, Chunk, Close, Done, Fork, Hidden, Neighbour, Path, Want, WireDType
from swarm.errors import NoSeat
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support.desks import A, B, C, Swarm
from tests.support.seats import opening

seats = st.sampled_from([A, B, C])
positions = st.integers(0, 12)
steps = st.integers(0, 4)
neighbours = st.builds(
    Neighbour, st.sampled_from([f"{number:032x}" for number in (0, 1)]), st.just("h:1"), seats, st.integers(1, 5)
)
opens = st.builds(
    opening,
    span=st.sampled_from([Span(0, 4), Span(0, 8), Span(4, 8)]),
    max_tokens=st.integers(8, 24),
    sampling=st.sampled_from([None, SamplingParams(), SamplingParams(presence_penalty=1.0)]),
    history=st.sampled_from([(), (1, 2, 1, 2)]),
    draft_tokens=st.integers(0, 3),
    stop_token_ids=st.sampled_from([(), (9,)]),
    embedded=st.booleans(),
)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """As ``decoding`` lets them through."""
    count = draw(st.integers(1, 6))
    drafts = tuple(draw(st.lists(st.integers(0, 12), max_size=count - 1)))
    chunk = Chunk(draw(steps), draw(positions), count, draw(st.sampled_from(Want)), drafts=drafts)
    if draw(st.booleans()):
        return replace(chunk, token_ids=tuple(draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))))
    return replace(chunk, hidden=Hidden(WireDType.F32, count, 2, bytes(8 * count)))


bodies: st.SearchStrategy[Body] = st.one_of(
    opens,
    chunks(),
    chunks(),
    st.builds(Path, positions, st.none() | neighbours, positions, st.none() | neighbours, positions, steps),
    st.builds(Fork, seats, positions, positions, st.sampled_from([None, SamplingParams()])),
    st.builds(Done, steps, positions),
    st.just(Advance()),
    st.just(Close()),
    st.just(NoSeat("gone")),
)
acts = st.tuples(st.integers(0, 1), seats, st.integers(0, 2), bodies, st.integers(0, 4))
usual = st.sampled_from(
    [
        (0, A, 0, opening(span=Span(0, 4), sampling=None, max_tokens=24), 0),
        (0, A, 0, opening(draft_tokens=3, max_tokens=24), 0),
        (1, B, 0, opening(span=Span(4, 8), max_tokens=24), 0),
        (0, A, 0, Path(0, Neighbour(f"{1:032x}", "h:1", B, 2), 0), 0),
        (1, B, 0, Path(0, None, 0, Neighbour(f"{0:032x}", "h:1", A, 16)), 0),
        (0, A, 0, Path(0, None, 0), 0),
        (0, A, 0, Path(0, None, 0, Neighbour(f"{0:032x}", "h:1", A, 16)), 0),
        (0, A, 0, Chunk(0, 0, 6, Want.TOKEN, token_ids=(1, 2, 3, 4, 5, 6)), 4),
        (0, A, 0, Chunk(0, 0, 6, Want.TOKEN, token_ids=(1, 2, 3, 4, 5, 6), drafts=(3, 4, 5, 6)), 4),
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(acts | usual, max_size=30))
def test_nothing_but_faults_comes_of_nonsense(script: list[tuple[int, bytes, int, Body, int]]):
    async def play() -> None:
        swarm = Swarm(Span(0, 8), Span(0, 8))
        for number, session, epoch, body, how_many in script:
            swarm.say(number, body, session, epoch)
            for _ in range(how_many):
                swarm.step()
        for _ in range(300):
            if not swarm.step():
                break
        for table in swarm.tables:
            for seat in table.desk.seats:
                assert seat.done <= seat.position <= seat.request.max_tokens
            table.desk.leave(table.link)
            assert (table.pool.used, table.pool.owed, table.engine.queue_tokens) == (0, 0, 0)

    asyncio.run(play())
