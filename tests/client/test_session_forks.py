"""Forks: Sessions that begin as another did say what they would have said alone, and beams are those of any search."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from client.answers import search, several
from client.beams import BeamParams, BeamSearch
from client.choices import Choices
from client.prefixes import Prefixes
from client.result import Result
from client.sampling import Wish
from client.session import Session
from client.text import Codec
from client.writer import Writer
from proto.messages import Chunk, Fork
from swarm.errors import NoRoute
from swarm.sampling import SamplingParams
from tests.client.sessions import PENALISED, SHAPES, THREE, TWICE, Act, freeze, kill
from tests.client.words import directory
from tests.support.hash_engine import logprobs_of, rows_after, undisturbed
from tests.support.virtual_loop import run_virtually, virtually
from tests.support.world import NEW, PAGE, PROMPT, World

SEEDED = SamplingParams(temperature=1.0, seed=9)
FEW = 12  # tokens, where all of their probabilities are told


@cache
def codec() -> Codec:
    with TemporaryDirectory() as words:
        return Codec(directory(Path(words)))


def writers(prompt: Sequence[int], new: int, world: World) -> Callable[[Wish], Writer]:
    return lambda wish: Writer(codec(), prompt, wish, new, world.clock.monotonic())


async def n_answers(
    world: World, count: int = 3, sampling: SamplingParams = SEEDED, prompt: Sequence[int] = PROMPT, **choices: object
) -> list[Result]:
    wish = Wish(sampling, NEW, (), frozenset(), Choices(count))
    choices = {"prefer": world.ids(1, 2, 3), **choices}
    async with world.session(prompt, sampling=sampling, **choices) as session:  # type: ignore[arg-type]
        return await several(session, prompt, wish, sampling, wish.choices, writers(prompt, NEW, world), world.clock)


def alone(count: int, sampling: SamplingParams = SEEDED, prompt: Sequence[int] = PROMPT) -> list[list[int]]:
    return [undisturbed(prompt, NEW, replace(sampling, seed=seed)) for seed in Choices(count).seeds(sampling.seed)]


def answers(results: Sequence[Result]) -> list[list[int]]:
    return [list(result.token_ids) for result in results]


def given(world: World, number: int) -> int:
    """Positions that a peer was given to compute."""
    return sum(e.body.count for n, e in world.log if n == number and isinstance(e.body, Chunk))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampling", [SEEDED, PENALISED], ids=["seed", "penalties"])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 17, 40])
@virtually
async def test_several_answers_are_those_of_several_sessions(shape: str, sampling: SamplingParams, length: int):
    world = World(*THREE)
    results = await n_answers(world, 3, sampling, PROMPT[:length], shape=shape)
    assert answers(results) == alone(3, sampling, PROMPT[:length])
    assert [result.shape for result in results] == [shape] * 3
    assert given(world, 2) == length + NEW - 1 + 2 * NEW, "the prompt was computed once, but for its last token"
    await world.quiet()
    assert world.num_seats == 0


@virtually
async def test_drafts_in_the_ring_change_no_answer():
    world, prompt = World(*THREE, vocab=2), (0, 1) * 12
    results = await n_answers(world, 3, SEEDED, prompt, draft_tokens=4)
    seeds = Choices(3).seeds(SEEDED.seed)
    assert answers(results) == [undisturbed(prompt, NEW, replace(SEEDED, seed=seed), vocab=2) for seed in seeds]


@virtually
async def test_what_the_first_found_is_said_of_all():
    world, prefixes = World(*THREE), Prefixes(PAGE)
    assert [r.cached_tokens for r in await n_answers(world, prefixes=prefixes)] == [0, 0, 0]
    assert [r.cached_tokens for r in await n_answers(world, prefixes=prefixes, seed=2)] == [32, 32, 32]


# A Hop that cannot.


@pytest.mark.parametrize("short", [(1,), (2,), (3,), (1, 3), (1, 2, 3)])
@virtually
async def test_where_a_hop_has_no_pages_for_forks_they_wait_or_go_elsewhere(short: tuple[int, ...]):
    """Nobody is harmed by the refusal, least of all the Session that was to be forked."""
    world = World(*TWICE)
    for number in short:
        seats = world.list[number - 1].seats
        seats.housing.pool.promise(seats.housing.pool.total - 8)  # a Session takes 6 Pages, and a fork 1 or 2
    assert answers(await n_answers(world)) == alone(3)
    await world.quiet()
    assert world.num_seats == 0


@virtually
async def test_a_refused_fork_is_no_failover_of_the_one_that_was_to_be_forked():
    world = World(*THREE)
    pool = world.list[1].seats.housing.pool
    async with world.session(sampling=SEEDED) as first:
        token = await first.next()
        pool.promise(pool.promisable)
        begun = world.clock.monotonic()
        other = await first.fork(PROMPT, replace(SEEDED, seed=5))
        assert world.clock.monotonic() - begun < 0.1, "a refusal is an answer, not a silence"
        assert [token.token_id] + [(await first.next()).token_id for _ in range(NEW - 1)] == undisturbed(
            PROMPT, NEW, SEEDED
        )
        assert first.failovers == 0
        other.close()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", [kill, freeze])
def test_whoever_is_lost_around_a_fork_changes_no_answer(shape: str, how: Callable[[int], Act]):
    async def scenario(victim: int, event: int) -> int:
        world = World(*TWICE)
        world.at[event] = lambda: how(victim)(world)
        results = await n_answers(world, shape=shape)
        assert answers(results) == alone(3)
        await world.quiet()
        assert world.num_seats == 0
        return int(event not in world.at)

    happened = [run_virtually(scenario(victim, event)) for victim in (1, 2, 3) for event in range(24, 90, 7)]
    assert sum(happened) > len(happened) // 2


def test_where_nobody_is_left_the_caller_hears_it_as_of_one_session():
    async def scenario(event: int) -> None:
        world = World(*THREE)
        world.at[event] = lambda: [peer.kill() for peer in world.list] and None
        with pytest.raises(NoRoute):
            await n_answers(world, patience_s=1.0)

    for event in (20, 45, 60, 75):
        run_virtually(scenario(event))


def test_who_leaves_in_the_middle_leaves_no_seat():
    async def scenario(after_s: float, work: Callable[[World], object]) -> int:
        world = World(*THREE, vocab=FEW)
        task = asyncio.ensure_future(work(world))  # type: ignore[arg-type]
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await world.quiet()
        return world.num_seats

    for work in (n_answers, lambda world: beam_search(world, BeamParams(3))):
        assert [run_virtually(scenario(0.007 * n, work)) for n in range(60)] == [0] * 60


# Beams.


async def beam_search(
    world: World, params: BeamParams, prompt: Sequence[int] = PROMPT, stops: Sequence[int] = (), new: int = NEW,
    **choices: object,
) -> list[Result]:  # fmt: skip
    beams = BeamSearch(params, new, stops)
    wish = Wish(SamplingParams(), new, (), frozenset(stops), beams=params)
    sampling = SamplingParams(logprobs=min(beams.width, FEW))
    choices = {"prefer": world.ids(1, 2, 3), **choices}
    async with world.session(prompt, new, sampling=sampling, guided=True, **choices) as session:  # type: ignore[arg-type]
        return await search(session, prompt, wish, sampling, beams, writers(prompt, new, world), world.clock)


@cache
def following(text: tuple[int, ...]) -> tuple[tuple[int, float], ...]:
    """What the model says may follow, without any swarm."""
    return logprobs_of(rows_after(text)[-1], FEW, 0, FEW)[1]


def searched(params: BeamParams, prompt: Sequence[int] = PROMPT, stops: Sequence[int] = ()) -> list[list[int]]:
    """The same search over the whole text, every time anew."""
    beams = BeamSearch(params, NEW, stops)
    while not beams.over:
        beams.step([following((*prompt, *beam.token_ids))[: beams.width] for beam in beams.live])
    return [list(finished.token_ids) for finished in beams.ranking()]


@pytest.mark.parametrize("shape", ["chain", "star"])
@pytest.mark.parametrize("stops", [(), (3, 7)], ids=["to the end", "stops"])
@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("length", [1, 8, 15, 40])
@virtually
async def test_beams_are_those_of_a_search_that_computes_every_text_anew(
    shape: str, stops: tuple[int, ...], num_beams: int, length: int
):
    params, world = BeamParams(num_beams, num_return_sequences=num_beams), World(*THREE, vocab=FEW)
    results = await beam_search(world, params, PROMPT[:length], stops, shape=shape)
    assert answers(results) == searched(params, PROMPT[:length], stops)
    assert {result.shape for result in results} == {shape}
    assert sum(isinstance(entry.body, Fork) for _, entry in world.log) >= 3 * (num_beams - 1)
    await world.quiet()
    assert world.num_seats == 0


@pytest.mark.parametrize("how", [kill, freeze])
def test_whoever_is_lost_during_a_beam_search_changes_no_beam(how: Callable[[int], Act]):
    params = BeamParams(3, num_return_sequences=3)

    async def scenario(victim: int, event: int) -> None:
        world = World(*TWICE, vocab=FEW)
        world.at[event] = lambda: how(victim)(world)
        assert answers(await beam_search(world, params)) == searched(params)
        await world.quiet()
        assert world.num_seats == 0

    chance = random.Random(3)
    for victim in (1, 2, 3):
        for _ in range(6):
            run_virtually(scenario(victim, chance.randrange(30, 200)))


@virtually
async def test_beams_go_on_where_pages_are_short():
    world = World(*TWICE, vocab=FEW)
    pool = world.list[1].seats.housing.pool
    pool.promise(pool.total - 8)
    params = BeamParams(4, num_return_sequences=4)
    assert answers(await beam_search(world, params)) == searched(params)


def test_a_session_can_only_be_guided_where_that_was_asked_for():
    async def scenario() -> None:
        async with World(*THREE).session() as session:
            assert isinstance(session, Session)
            with pytest.raises(AssertionError):
                session.choose(3)

    run_virtually(scenario())
