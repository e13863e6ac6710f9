"""A Session that nothing happens to: the same tokens in every shape, and nothing left behind."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from client.request import Request
from client.session import Session
from proto.messages import Chunk, Open, Path
from swarm.errors import UsageError
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.client.sessions import PENALISED, SHAPES, THREE, TWICE, play
from tests.support.hash_engine import BLOCKS, HIDDEN, MODEL, VOCAB, undisturbed
from tests.support.virtual_loop import run_virtually, virtually
from tests.support.world import NEW, PROMPT, World, generate


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cuts", [(), (3,), (2, 4), (1, 2, 3, 4, 5)])
def test_neither_shape_nor_cuts_nor_chunks_change_a_token(shape: str, cuts: tuple[int, ...]):
    spans = list(pairwise((0, *cuts, BLOCKS)))
    for chunk in (2, 7, 16, 100):
        outcome = play(spans, shape=shape, prefill_chunk=chunk)
        assert outcome.tokens == undisturbed(PROMPT, NEW)
        assert outcome.failovers == 0 and outcome.route is not None and len(outcome.route.hops) == len(spans)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampling", [PENALISED, SamplingParams(temperature=1.0, seed=9)], ids=["penalties", "seed"])
def test_sampling_is_the_same_in_every_shape(shape: str, sampling: SamplingParams):
    assert play(shape=shape, sampling=sampling).tokens == undisturbed(PROMPT, NEW, sampling)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_token_of_one_is_a_whole_session(shape: str):
    assert play(shape=shape, prompt=(7,), new=1).tokens == undisturbed((7,), 1)


def test_in_a_ring_the_last_hop_feeds_the_first_and_nobody_waits_for_the_client():
    ring, chain = play(THREE, shape="ring"), play(THREE, shape="chain")
    assert list(ring.world.list[2].roads) == [ring.world.list[0].info.peer_id]
    assert not chain.world.list[2].roads
    assert ring.took_s < chain.took_s


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pass_has_one_step_number_at_all_hops_and_numbers_rise(shape: str):
    steps: dict[int, list[tuple[int, int]]] = {1: [], 2: [], 3: []}
    for number, entry in play(THREE, shape=shape).world.log:
        if isinstance(entry.body, Chunk):
            steps[number].append((entry.body.step, entry.body.position))
    assert steps[1] == steps[2] == steps[3]
    assert all(one < other for one, other in pairwise(steps[1]))
    assert len(steps[1]) == 5 + NEW - 1, "40 tokens in chunks of 8, then one step a token"


def test_sampling_parameters_go_to_the_last_hop_only_and_history_only_where_it_is_needed():
    outcome = play(THREE, sampling=PENALISED)
    opens = {number: entry.body for number, entry in outcome.world.log if isinstance(entry.body, Open)}
    assert [(opens[n].span, opens[n].sampling, len(opens[n].history)) for n in (1, 2, 3)] == [
        (Span(0, 2), None, 0),
        (Span(2, 4), None, 0),
        (Span(4, 6), PENALISED, 40),
    ]
    assert {(o.max_tokens, o.prompt_tokens, o.num_hops) for o in opens.values()} == {(48, 40, 3)}


@pytest.mark.parametrize("shape", SHAPES)
def test_who_sends_to_whom_is_what_the_shape_says(shape: str):
    log = play(THREE, shape=shape).world.log
    paths = {number: entry.body for number, entry in log if isinstance(entry.body, Path)}
    onward = [int(p.next.peer_id, 16) if p.next else None for _, p in sorted(paths.items())]
    assert onward == ([None] * 3 if shape == "star" else [2, 3, None])
    assert [p.feed is not None for _, p in sorted(paths.items())] == [False, False, shape == "ring"]


# Drafts.


@pytest.mark.parametrize("sampling", [None, PENALISED], ids=["greedy", "penalties"])
def test_drafts_in_the_ring_change_no_token_and_save_steps(sampling: SamplingParams | None):
    """Of two tokens, every other guess is right."""
    prompt, new = (0, 1) * 20, 30
    plain = play(THREE, prompt=prompt, new=new, vocab=2, sampling=sampling)
    drafted = play(THREE, prompt=prompt, new=new, vocab=2, sampling=sampling, draft_tokens=4)
    assert drafted.tokens == plain.tokens == undisturbed(prompt, new, sampling, vocab=2)
    assert drafted.took_s < plain.took_s and drafted.failovers == 0


@pytest.mark.parametrize("shape", ["chain", "star"])
@pytest.mark.parametrize("sampling", [None, PENALISED], ids=["greedy", "penalties"])
def test_drafts_of_the_clients_own_change_no_token_and_save_steps(shape: str, sampling: SamplingParams | None):
    prompt, new = (0, 1) * 20, 30
    plain = play(THREE, prompt=prompt, new=new, vocab=2, sampling=sampling, shape=shape)
    drafted = play(THREE, prompt=prompt, new=new, vocab=2, sampling=sampling, shape=shape, drafts=4)
    assert drafted.tokens == plain.tokens == undisturbed(prompt, new, sampling, vocab=2)
    assert drafted.took_s < plain.took_s and drafted.failovers == 0


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (2, 0)])
def test_drafts_that_fail_are_no_trouble_where_the_client_carries_a_part(pair: tuple[int, int]):
    prompt, new = (0, 1) * 20, 30
    outcome = play(THREE, before=lambda w: w.separate(*pair), prompt=prompt, new=new, vocab=2, draft_tokens=4)
    assert outcome.tokens == undisturbed(prompt, new, vocab=2)
    assert outcome.failovers == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_drafts_never_go_past_the_end(shape: str):
    own = {"draft_tokens": 8} if shape == "ring" else {"drafts": 8}
    for new in range(1, 7):
        outcome = play(THREE, prompt=(1,) * 8, new=new, vocab=1, shape=shape, **own)
        assert outcome.tokens == [0] * new
        assert max(e.body.end for _, e in outcome.world.log if isinstance(e.body, Chunk)) <= 8 + new - 1


# Stopping, reading slowly, leaving.


@pytest.mark.parametrize("shape", SHAPES)
def test_after_a_stop_token_nothing_is_computed_unless_it_is_asked_for(shape: str):
    expected = undisturbed(PROMPT, NEW)
    assert expected.index(expected[3]) == 3

    @virtually
    async def scenario() -> None:
        world = World(*THREE)
        async with world.session(shape=shape, stops=[expected[3]]) as session:
            assert [(await session.next()).token_id for _ in range(4)] == expected[:4]
            await world.clock.sleep(5.0)
            ends = [entry.body.end for _, entry in world.log if isinstance(entry.body, Chunk)]
            assert max(ends) == 43, "the stop token at position 43 was given to nobody"
            assert [(await session.next()).token_id for _ in range(4)] == expected[4:]

    scenario()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_reader_who_takes_longer_than_a_lease_loses_nothing(shape: str):
    outcome = play(shape=shape, pause_s=20.0)
    assert (outcome.tokens, outcome.failovers) == (undisturbed(PROMPT, NEW), 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_session_that_is_cancelled_anywhere_leaves_no_seat(shape: str):
    async def cancelled(after_s: float) -> int:
        world = World(*TWICE)
        world.at[30] = world.list[1].kill
        task = asyncio.create_task(generate(world.session(shape=shape)))
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await world.quiet()
        return world.num_seats

    assert [run_virtually(cancelled(0.011 * n)) for n in range(40)] == [0] * 40


@pytest.mark.parametrize("shape", SHAPES)
@virtually
async def test_one_wait_that_is_cancelled_loses_no_token(shape: str):
    world, tokens = World(*TWICE), list[int]()
    async with world.session(shape=shape) as session:
        while len(tokens) < NEW:
            try:
                async with asyncio.timeout(0.013):
                    tokens.append((await session.next()).token_id)
            except TimeoutError:
                pass
    assert tokens == undisturbed(PROMPT, NEW)
    await world.quiet()
    assert world.num_seats == 0


@virtually
async def test_closing_twice_is_closing_once():
    world = World(*THREE)
    session = world.session()
    async with session:
        await session.next()
        session.close()
    await world.quiet()
    assert world.num_seats == 0


@pytest.mark.parametrize(
    "changes",
    [{"prompt": (1, -1)}, {"prompt": (1, 1 << 32)}, {"prompt": (1, 2.5)}, {"prompt": ("1",)}, {"profile": "\ud800"}],
)
@virtually
async def test_a_request_that_fits_no_message_is_told_and_nobody_is_blamed(changes: dict[str, object]):
    world = World(*THREE)
    given = {"prompt": (1, 2), "profile": "c8", **changes}
    request = Request(MODEL, given["profile"], given["prompt"], 8, SamplingParams(), HIDDEN, VOCAB)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="fits no message"):
        Session(request, world, None, None, None, clock=world.clock)  # type: ignore[arg-type]
    assert not world.banned and not world.log
