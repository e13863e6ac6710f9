"""Several answers and beams over Sessions that are scripted; over real ones in ``test_session_forks``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from client.answers import search, several
from client.beams import BeamParams, BeamSearch
from client.choices import Choices
from client.sampling import Wish
from client.text import Codec
from client.writer import Writer
from proto.messages import Token
from swarm.clock import VirtualClock
from swarm.errors import NoRoute
from swarm.sampling import SamplingParams
from tests.client.words import directory

PROMPT, NEW = (1, 2, 3), 12
SAMPLING = SamplingParams(temperature=1.0, seed=5, logprobs=0)
Say = Callable[["Script"], Token]


class Script:
    """Stands for a Session. ``say`` is what comes next; all that were ever made are in ``made``."""

    shape, cached_tokens, route, failovers = "star", 32, None, 1

    def __init__(self, say: Say, made: list[Script], text: Sequence[int] = PROMPT, sampling: SamplingParams = SAMPLING):
        self.say, self.made, self.text, self.sampling = say, made, list(text), sampling
        self.closed = False
        self.forks = 0
        made.append(self)

    async def next(self) -> Token:
        await asyncio.sleep(0)
        assert not self.closed
        token = self.say(self)
        if not self.guided:
            self.text.append(token.token_id)
        return token

    guided = False

    async def fork(self, text: Sequence[int], sampling: SamplingParams) -> Script:
        self.forks += 1
        await asyncio.sleep(0)
        return type(self)(self.say, self.made, text, sampling)

    def choose(self, token_id: int) -> None:
        self.text.append(token_id)

    def close(self) -> None:
        self.closed = True


class Guided(Script):
    guided = True


@cache
def codec() -> Codec:
    with TemporaryDirectory() as words:
        return Codec(directory(Path(words)))


def writer(wish: Wish) -> Writer:
    return Writer(codec(), PROMPT, wish, NEW, 0.0)


def from_seed(session: Script) -> Token:
    """Tokens by seed; a higher one is more likely."""
    number = session.sampling.seed % 100
    return Token(0, len(session.text), number + len(session.text), -1.0 / (1 + number))


async def answers(say: Say, made: list[Script], choices: Choices, stops: Sequence[int] = ()) -> list:
    wish = Wish(SAMPLING, NEW, (), frozenset(stops), choices)
    return await several(Script(say, made), PROMPT, wish, SAMPLING, choices, writer, VirtualClock())  # type: ignore[arg-type]


async def test_each_answer_has_its_seed_and_they_come_in_order():
    made: list[Script] = []
    results = await answers(from_seed, made, Choices(3))
    seeds = Choices(3).seeds(5)
    assert [result.seed for result in results] == list(seeds)
    assert [result.token_ids for result in results] == [tuple(seed % 100 + 3 + n for n in range(NEW)) for seed in seeds]
    assert all(each.closed for each in made) and made[0].forks == 2
    assert {(r.shape, r.cached_tokens, r.failovers) for r in results} == {("star", 32, 1)}


async def test_of_more_candidates_the_most_likely_come_back():
    results = await answers(from_seed, [], Choices(2, 5))
    best = sorted(Choices(2, 5).seeds(5), key=lambda seed: seed % 100)[-2:]
    assert [result.seed for result in results] == best[::-1]


async def test_an_answer_that_ends_early_gives_its_seat_back_early():
    made: list[Script] = []
    results = await answers(from_seed, made, Choices(2), stops=[5 + 4])
    assert [(r.finish_reason, len(r.token_ids)) for r in results] == [("stop", 2), ("length", NEW)]
    assert [len(each.text) for each in made] == [3 + 2, 3 + NEW]


@pytest.mark.parametrize("at", [3, 4, 5])
async def test_the_first_failure_is_raised_as_it_is_and_nobody_goes_on(at: int):
    made: list[Script] = []

    def fail(session: Script) -> Token:
        if len(session.text) == at and session is made[-1]:
            raise NoRoute("nobody is there", missing=())
        return from_seed(session)

    with pytest.raises(NoRoute):
        await answers(fail, made, Choices(3))
    assert all(each.closed for each in made[1:]), "the first is the caller's"
    assert all(len(each.text) < 3 + NEW for each in made), "somebody went on to the end"


class NoFork(Script):
    async def fork(self, text: Sequence[int], sampling: SamplingParams) -> Script:
        forked = await super().fork(text, sampling)
        if self.forks == 3:
            forked.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            raise ZeroDivisionError
        return forked


async def test_forks_that_are_made_when_another_fails_are_closed():
    made: list[Script] = []
    wish = Wish(SAMPLING, NEW, (), frozenset(), Choices(4))
    first = NoFork(from_seed, made)
    with pytest.raises(ZeroDivisionError):
        await several(first, PROMPT, wish, SAMPLING, wish.choices, writer, VirtualClock())  # type: ignore[arg-type]
    assert len(made) == 4 and all(each.closed for each in made[1:])


def beams_of(session: Script) -> Token:
    """The likeliest token is what the text so far adds up to."""
    first = sum(session.text) % 7
    order = sorted(range(7), key=lambda token: (token - first) % 7)
    top = tuple((token, -0.1 - 0.4 * rank) for rank, token in enumerate(order))
    return Token(0, len(session.text), first, -0.1, top)


async def searched(made: list[Script], say: Say = beams_of, params: BeamParams | None = None) -> list:
    params = params or BeamParams(3, num_return_sequences=3)
    wish = Wish(SamplingParams(), NEW, (), frozenset(), beams=params)
    first = Guided(say, made)
    return await search(
        first, PROMPT, wish, SamplingParams(logprobs=6), BeamSearch(params, NEW), writer, VirtualClock()  # type: ignore[arg-type]
    )  # fmt: skip


async def test_beams_are_followed_by_forking_and_every_session_is_closed():
    made: list[Script] = []
    results = await searched(made)
    beams = BeamSearch(BeamParams(3, num_return_sequences=3), NEW)
    while not beams.over:
        beams.step([beams_of(Script(beams_of, [], (*PROMPT, *beam.token_ids))).top[:6] for beam in beams.live])
    assert [result.token_ids for result in results] == [finished.token_ids for finished in beams.ranking()]
    assert all(each.closed for each in made)
    assert {(r.shape, r.cached_tokens, r.finish_reason) for r in results} == {("star", 32, "length")}


@pytest.mark.parametrize("at", [3, 4, 6])
async def test_a_search_that_fails_closes_every_session(at: int):
    made: list[Script] = []

    def fail(session: Script) -> Token:
        if len(session.text) == at:
            raise NoRoute("nobody is there", missing=())
        return beams_of(session)

    with pytest.raises(NoRoute):
        await searched(made, fail)
    assert all(each.closed for each in made)


async def test_a_search_that_is_cancelled_anywhere_closes_every_session_and_asks_nobody_again():
    for turns in range(30):
        made: list[Script] = []
        task = asyncio.create_task(searched(made))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert all(each.closed for each in made), turns
        for _ in range(5):
            await asyncio.sleep(0)  # a Session that is asked now would say so
