"""Hops that cannot reach each other, peers that are full, Blocks that nobody has, and a Journal that is short."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import product

import pytest

from client.journal import Budget
from proto.messages import Path
from swarm.errors import NoRoute
from swarm.span import Span
from tests.client.sessions import PENALISED, SHAPES, THREE, TWICE, Act, freeze, kill, play, restart
from tests.support.hash_engine import undisturbed
from tests.support.virtual_loop import run_virtually, virtually
from tests.support.world import NEW, PROMPT, World, generate

# Out of reach of each other.


@pytest.mark.parametrize("shape", ["ring", "chain"])
def test_hops_that_cannot_reach_each_other_are_carried_by_the_client_and_nobody_is_lost(shape: str):
    pairs = list(product(range(3), repeat=2))
    for apart in [[pair] for pair in pairs] + [[(0, 1), (1, 2)], [(1, 2), (2, 0)], pairs]:
        outcome = play(THREE, shape=shape, before=lambda world, apart=apart: [world.separate(*p) for p in apart])
        assert (outcome.tokens, outcome.failovers) == (undisturbed(PROMPT, NEW), 0), apart
        last: dict[int, Path] = {n: e.body for n, e in outcome.world.log if isinstance(e.body, Path)}
        assert [last[n].next is not None for n in (1, 2)] == [(0, 1) not in apart, (1, 2) not in apart]
        assert (last[3].feed is not None) == (shape == "ring" and (2, 0) not in apart)


def test_what_was_found_out_is_known_to_the_next_session():
    @virtually
    async def scenario() -> None:
        world = World(*THREE)
        world.separate(0, 1)
        begun = world.clock.monotonic()
        assert await generate(world.session()) == undisturbed(PROMPT, NEW)
        middle = world.clock.monotonic()
        assert await generate(world.session(seed=2)) == undisturbed(PROMPT, NEW)
        assert world.clock.monotonic() - middle < middle - begun - 0.9, "it took a second to find out"

    scenario()


@pytest.mark.parametrize("shape", ["ring", "chain"])
def test_a_way_that_breaks_later_is_carried_from_then_on(shape: str):
    def break_off(world: World) -> None:
        world.separate(1, 2)
        for road in world.list[1].roads.values():
            road.cut()

    for event in range(20, 90, 3):
        outcome = play(THREE, shape=shape, at={event: break_off})
        assert (outcome.tokens, outcome.failovers) == (undisturbed(PROMPT, NEW), 0), event


@pytest.mark.parametrize("shape", ["ring", "chain"])
def test_losses_where_some_pairs_are_apart_change_nothing(shape: str):
    for event in range(10, 130, 6):
        for victim, pair in product((1, 2, 3), ((0, 1), (1, 2), (3, 1))):
            outcome = play(
                shape=shape, at={event: kill(victim)}, before=lambda world, pair=pair: world.separate(*pair)
            )  # fmt: skip
            assert outcome.tokens == undisturbed(PROMPT, NEW), f"{victim} at {event}, {pair} apart"


# A Journal that is short.


@pytest.mark.parametrize("budget", [0, 300, 800])
@pytest.mark.parametrize("shape", ["star", "chain"])
def test_a_journal_that_had_to_forget_is_made_up_for_by_computing_again(budget: int, shape: str):
    """In a chain the client carries one boundary here."""
    expected = undisturbed(PROMPT, NEW, PENALISED)
    for event in range(8, 110, 4):
        for victim in (1, 2, 3):
            outcome = play(
                shape=shape, sampling=PENALISED, budget=budget, at={event: (kill, freeze)[event // 4 % 2](victim)},
                before=lambda world: world.separate(1, 2),
            )  # fmt: skip
            assert outcome.tokens == expected, f"{victim} at event {event}"


@virtually
async def test_the_journal_stays_within_its_budget_but_for_what_is_on_its_way():
    world, budget, peak = World(*THREE), Budget(500), 0
    async with world.session(shape="star", budget=budget) as session:
        for _ in range(NEW):
            await session.next()
            peak = max(peak, budget.used)
    assert 0 < peak <= 500 + 2 * 16 * 8
    assert budget.used == 0


# Nobody is left.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("victim", [1, 2, 3])
@pytest.mark.parametrize("how", [kill, freeze], ids=["killed", "frozen"])
def test_missing_blocks_end_in_an_error_that_names_them_and_keeps_the_tokens(shape: str, victim: int, how):
    outcome = play(THREE, shape=shape, at={100: how(victim)}, new=20)
    assert outcome.error is not None and outcome.error.missing == (Span(*THREE[victim - 1]),)
    assert 0 < len(outcome.tokens) < 20
    assert list(outcome.error.token_ids) == outcome.tokens == undisturbed(PROMPT, 20)[: len(outcome.tokens)]
    assert 10 <= outcome.took_s < 15, "it waited its patience and not longer"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wrong", [kill, freeze], ids=["killed", "frozen"])
def test_the_only_holder_that_comes_back_in_time_is_asked_again(shape: str, wrong):
    def later(world: World, victim: int) -> None:
        wrong(victim)(world)
        peer = world.list[victim - 1]
        asyncio.get_running_loop().call_later(6.0, peer.restart if wrong is kill else peer.thaw)

    for event in range(0, 100, 3):
        victim = 1 + event // 3 % 3
        outcome = play(THREE, shape=shape, at={event: lambda world, victim=victim: later(world, victim)})
        assert outcome.tokens == undisturbed(PROMPT, NEW), event


@virtually
async def test_blocks_that_are_announced_late_are_waited_for():
    world = World(*THREE)
    world.hidden = set(world.ids(2))
    asyncio.get_running_loop().call_later(4.0, world.hidden.clear)
    assert await generate(world.session()) == undisturbed(PROMPT, NEW)


# Pages.


def test_a_session_that_fits_nowhere_is_told_why():
    outcome = play([(0, 6)], kv_tokens=24)
    assert outcome.error is not None and "page" in str(outcome.error).lower()
    assert outcome.tokens == []


@pytest.mark.parametrize("shape", SHAPES)
def test_sessions_that_do_not_fit_at_once_take_turns(shape: str):
    """Two peers whose room suffices for two of ten: all-or-nothing opening, or they would block each other."""

    @virtually
    async def scenario() -> None:
        world = World((0, 3), (3, 6), kv_tokens=104)
        prompts = [tuple(range(n, n + 40)) for n in range(1, 11)]
        sessions = [world.session(prompt, seed=n, shape=shape) for n, prompt in enumerate(prompts)]
        results = await asyncio.gather(*(generate(session) for session in sessions))
        assert results == [undisturbed(prompt, NEW) for prompt in prompts]
        await world.quiet()
        assert world.num_seats == 0

    scenario()


@virtually
async def test_a_refusal_gives_back_the_seats_that_were_granted_beside_it():
    small = World((0, 3), (3, 6), kv_tokens=56)
    roomy = small.list[0]
    roomy.info = replace(roomy.info, kv_tokens=1000)
    roomy.restart()
    blocking, waiting = small.session(seed=1), small.session(seed=2)
    async with blocking, waiting:
        await blocking.next()
        task, held = asyncio.create_task(waiting.next()), set[int]()
        for _ in range(100):
            await asyncio.sleep(0.02)
            held.add(small.num_seats)
        assert held == {2, 3}, "the waiting one holds a Seat only while it asks"
        assert not task.done()
        blocking.close()
        await task
    await small.quiet()
    assert small.num_seats == 0


# Many at once.


@pytest.mark.parametrize("shape", SHAPES)
def test_many_sessions_at_once_do_not_disturb_each_other_also_when_a_hop_is_lost(shape: str):
    async def scenario(event: int, act: Act | None) -> list[list[int]]:
        world = World(*TWICE)
        if act is not None:
            world.at[event] = lambda: act(world)
        sessions = [world.session(range(n, n + 30), seed=n, shape=shape) for n in range(1, 9)]
        answers = await asyncio.gather(*(generate(session) for session in sessions))
        await world.quiet()
        assert world.num_seats == 0
        return answers

    expected = [undisturbed(range(n, n + 30), NEW) for n in range(1, 9)]
    assert run_virtually(scenario(0, None)) == expected
    for event in (60, 200, 330, 500):
        for act in (kill(1), freeze(2), kill(3), restart(2)):
            assert run_virtually(scenario(event, act)) == expected


@virtually
async def test_a_session_without_a_way_says_so_before_any_token():
    world = World((0, 2), (4, 6))
    with pytest.raises(NoRoute, match="2:4") as caught:
        await generate(world.session())
    assert caught.value.missing == (Span(2, 4),) and caught.value.token_ids == ()
