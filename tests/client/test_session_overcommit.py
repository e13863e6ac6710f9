"""More Sessions than there are Pages for: they move out and come back, and say what they would have said alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from client.prefixes import Prefixes
from swarm.sampling import SamplingParams
from tests.client.sessions import PENALISED, SHAPES, THREE, TWICE, Act, freeze, kill, restart
from tests.support.hash_engine import undisturbed
from tests.support.virtual_loop import run_virtually, virtually
from tests.support.world import PAGE, PROMPT, World, generate

PAGES = 12  # at each peer; a Session takes 8 of them in the end
NEW = 24
MANY = 6


def prompts(count: int = MANY) -> list[tuple[int, ...]]:
    return [tuple(range(100 * n + 1, 100 * n + 41)) for n in range(count)]


def crowded(spans: Sequence[tuple[int, int]] = THREE, overcommit: float = 4.0, **changes: object) -> World:
    return World(*spans, kv_tokens=PAGES * PAGE, overcommit=overcommit, **changes)  # type: ignore[arg-type]


async def together(world: World, sampling: SamplingParams | None = None, **choices: object) -> list[list[int]]:
    """All prompts at once."""
    choices = {"prefer": world.ids(1, 2, 3), **choices}
    return await asyncio.gather(
        *(
            generate(world.session(prompt, NEW, sampling=sampling, seed=n, **choices), NEW)  # type: ignore[arg-type]
            for n, prompt in enumerate(prompts())
        )
    )


def swapped_out(world: World) -> int:
    return sum(peer.seats.housing.swapped_out for peer in world.list)


def empty(world: World) -> None:
    assert world.num_seats == 0
    for peer in world.list:
        if peer.alive:
            pool = peer.seats.housing.pool
            assert (pool.used, pool.owed, peer.seats.housing._attic.used) == (0, 0, 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampling", [None, PENALISED], ids=["greedy", "penalties"])
@pytest.mark.parametrize("swap_bytes", [0, 5000, 1 << 30], ids=["files", "both", "memory"])
@virtually
async def test_more_sessions_than_fit_all_say_what_they_would_alone(
    shape: str, sampling: SamplingParams | None, swap_bytes: int
):
    world = crowded(swap_bytes=swap_bytes)
    answers = await together(world, sampling, shape=shape)
    assert answers == [undisturbed(prompt, NEW, sampling) for prompt in prompts()]
    assert min(peer.seats.housing.swapped_out for peer in world.list) > 0
    await world.quiet()
    empty(world)


@virtually
async def test_without_overcommitment_they_wait_for_their_turn_and_nobody_moves_out():
    world = crowded(overcommit=1.0)
    assert await together(world) == [undisturbed(prompt, NEW) for prompt in prompts()]
    assert swapped_out(world) == 0


@virtually
async def test_drafts_and_swapping_do_not_meet_badly():
    world, prompt = crowded(vocab=2), (0, 1) * 20
    answers = await asyncio.gather(
        *(
            generate(world.session((*prompt, n % 2), NEW, seed=n, draft_tokens=4), NEW)
            for n in range(MANY)
        )
    )  # fmt: skip
    assert answers == [undisturbed((*prompt, n % 2), NEW, vocab=2) for n in range(MANY)]
    assert swapped_out(world)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", [kill, freeze, restart])
def test_whoever_is_lost_meanwhile_nobody_hears_anything_wrong(shape: str, how: Callable[[int], Act]):
    async def scenario(victim: int, event: int) -> int:
        world = crowded(TWICE)
        world.at[event] = lambda: how(victim)(world)
        answers = await together(world, shape=shape, prefer=())
        assert answers == [undisturbed(prompt, NEW) for prompt in prompts()]
        await world.quiet()
        empty(world)
        return swapped_out(world)

    assert all(run_virtually(scenario(victim, event)) for victim, event in ((1, 60), (2, 150), (3, 250), (2, 400)))


@virtually
async def test_prefixes_are_found_while_seats_move_out():
    world, prefixes = crowded(), Prefixes(PAGE)
    for turn in range(3):
        answers = await asyncio.gather(
            *(
                generate(world.session((*PROMPT, n), NEW, seed=10 * turn + n, prefixes=prefixes), NEW)
                for n in range(MANY)
            )
        )
        assert answers == [undisturbed((*PROMPT, n), NEW) for n in range(MANY)]
    assert swapped_out(world) and world.list[0].seats.housing.pool.hits
    await world.quiet()
    empty(world)


@virtually
async def test_forks_share_move_out_and_come_back():
    """Their common Pages come free only once all of them are out."""
    world, sampling = crowded(), SamplingParams(temperature=1.0, seed=1)
    seeds = [SamplingParams(temperature=1.0, seed=n) for n in range(2, 6)]
    async with world.session(prompts()[0], NEW, sampling=sampling) as first:
        begun = [(await first.next()).token_id]
        forks = await asyncio.gather(*(first.fork(prompts()[0], seed) for seed in seeds))
        others = [generate(world.session(p, NEW, seed=n), NEW) for n, p in enumerate(prompts()[1:4], 50)]
        answers = await asyncio.gather(*(generate(fork, NEW) for fork in forks), *others)
        begun += [(await first.next()).token_id for _ in range(NEW - 1)]
    assert begun == undisturbed(prompts()[0], NEW, sampling)
    assert answers[:4] == [undisturbed(prompts()[0], NEW, seed) for seed in seeds]
    assert answers[4:] == [undisturbed(prompt, NEW) for prompt in prompts()[1:4]]
    assert swapped_out(world)
    await world.quiet()
    empty(world)


@pytest.mark.parametrize("limits", [(0, 0), (300, 0), (300, 2000), (0, 1 << 30)])
@pytest.mark.parametrize("shape", ["ring", "chain"])
def test_journals_that_are_short_of_memory_or_disk_change_no_token(limits: tuple[int, int], shape: str):
    async def scenario(victim: int, event: int) -> None:
        world = World(*TWICE, journal_bytes=limits)
        world.at[event] = world.list[victim - 1].kill
        assert await generate(world.session(shape=shape, prefer=world.ids(1, 2, 3)), 8) == undisturbed(PROMPT, 8)
        await world.quiet()
        assert world.num_seats == 0

    for victim in (1, 2, 3):
        for event in (20, 30, 40, 50):
            run_virtually(scenario(victim, event))
