"""Several answers to one prompt: n and best_of, and beam search. One Session computes the prompt; the others begin as
forks of it and share its Pages at every Hop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from client.beams import BeamSearch
from client.choices import Choices
from client.result import Result
from client.sampling import Wish
from client.session import Session
from client.writer import Writer
from proto.messages import Token
from swarm.clock import Clock
from swarm.sampling import SamplingParams

T = TypeVar("T")


async def several(
    first: Session, prompt: Sequence[int], wish: Wish, sampling: SamplingParams, choices: Choices,
    new_writer: Callable[[Wish], Writer], clock: Clock,
) -> list[Result]:  # fmt: skip
    """The answers that are returned, best first. ``sampling`` is what ``first`` was asked to draw with."""
    seeds = choices.seeds(wish.seed)
    token = await first.next()  # then every Hop has the prompt
    shape, cached_tokens = first.shape, first.cached_tokens
    others = await _together([first.fork(prompt, replace(sampling, seed=seed)) for seed in seeds[1:]], _close)
    writers = [new_writer(replace(wish, sampling=replace(wish.sampling, seed=seed))) for seed in seeds]
    try:
        drawn = await _together(
            [
                _write(session, writer, clock, token if session is first else None)
                for session, writer in zip((first, *others), writers, strict=True)
            ]
        )
    finally:
        for session in others:
            session.close()
    logprobs = [[token.logprob for token in tokens if token.logprob is not None] for tokens in drawn]
    order = choices.chosen(logprobs) if choices.ranked else range(choices.n)
    results = [writers[index].result(first.route, first.failovers) for index in order]
    return [replace(result, shape=shape, cached_tokens=cached_tokens) for result in results]


async def _write(session: Session, writer: Writer, clock: Clock, token: Token | None) -> list[Token]:
    """The tokens of one answer, to its end."""
    tokens: list[Token] = []
    while writer.finish_reason is None:
        token = token or await session.next()
        tokens.append(token)
        writer.write(token, clock.monotonic(), session.route, session.failovers)
        token = None
    session.close()
    return tokens


async def search(
    first: Session, prompt: Sequence[int], wish: Wish, sampling: SamplingParams, beams: BeamSearch,
    new_writer: Callable[[Wish], Writer], clock: Clock,
) -> list[Result]:  # fmt: skip
    """The best sequences of a beam search, best first. ``first`` is guided, and reports ``beams.width`` logprobs."""
    sessions, begun, shape = [first], clock.monotonic(), first.shape
    try:
        while not beams.over:
            proposed = await _together([session.next() for session in sessions])
            shape = sessions[0].shape
            branches = beams.step([token.top for token in proposed])
            sessions = await _branch(sessions, [(b.parent, b.token_id) for b in branches], beams, prompt, sampling)
    finally:
        for session in sessions:
            session.close()
    results: list[Result] = []
    for finished in beams.ranking():
        writer = new_writer(wish)
        for position, token_id in enumerate(finished.token_ids, len(prompt)):
            if writer.finish_reason is None:
                writer.write(Token(position, position, token_id), clock.monotonic(), first.route, first.failovers)
        result, spent = writer.result(first.route, first.failovers), clock.monotonic() - begun
        rate = result.completion_tokens / spent if spent > 0 else 0.0
        results.append(replace(result, tokens_per_s=rate, shape=shape, cached_tokens=first.cached_tokens))
    return results


async def _branch(
    sessions: Sequence[Session], branches: Sequence[tuple[int, int]], beams: BeamSearch, prompt: Sequence[int],
    sampling: SamplingParams,
) -> list[Session]:  # fmt: skip
    """The Sessions of the next live beams. The first branch of a beam goes on with its Session, the others fork it."""
    taken: set[int] = set()
    forked: dict[int, Coroutine[Any, Any, Session]] = {}
    for place, (parent, _) in enumerate(branches):
        if parent in taken:
            forked[place] = sessions[parent].fork((*prompt, *beams.live[place].token_ids), sampling)
        taken.add(parent)
    made = dict(zip(forked, await _together(list(forked.values()), _close), strict=True))
    following: list[Session] = []
    for place, (parent, token_id) in enumerate(branches):
        if place in made:
            following.append(made[place])
        else:
            sessions[parent].choose(token_id)
            following.append(sessions[parent])
    for index, session in enumerate(sessions):
        if index not in taken:
            session.close()
    return following


def _close(session: Session) -> None:
    session.close()


async def _together(work: Sequence[Coroutine[Any, Any, T]], undo: Callable[[T], None] | None = None) -> list[T]:
    """All of them. The first failure, or the caller's leaving, ends the others, undoes what is done, and is raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if undo is not None and not isinstance(result, BaseException):
                undo(result)
        raise
