"""One Session from beginning to end in a World: what it said, and that nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from client.journal import Budget
from swarm.draft import Drafter
from swarm.errors import NoRoute
from swarm.route import Route
from swarm.sampling import SamplingParams
from tests.support.hash_engine import VOCAB
from tests.support.virtual_loop import run_virtually
from tests.support.world import NEW, PROMPT, World

SHAPES = ("ring", "chain", "star")
THREE = ((0, 2), (2, 4), (4, 6))
TWICE = THREE + THREE
PENALISED = SamplingParams(temperature=0.7, seed=5, repetition_penalty=1.2, presence_penalty=0.5)

Act = Callable[[World], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``error`` is the NoRoute that it ended in, if it did."""

    tokens: list[int]
    failovers: int
    events: int  # up to its end
    took_s: float
    route: Route | None
    world: World
    error: NoRoute | None = None


def kill(number: int) -> Act:
    return lambda world: world.list[number - 1].kill()


def freeze(number: int) -> Act:
    return lambda world: world.list[number - 1].freeze()


def restart(number: int) -> Act:
    return lambda world: world.list[number - 1].restart()


def expire(number: int) -> Act:
    return lambda world: world.list[number - 1].expire()


def play(
    spans: Sequence[tuple[int, int]] = TWICE, *, at: Mapping[int, Act] | None = None, before: Act | None = None,
    prompt: Sequence[int] = PROMPT, new: int = NEW, sampling: SamplingParams | None = None, vocab: int = VOCAB,
    seed: int = 0, kv_tokens: int = 1000, budget: int = 1 << 30, drafts: int = 0, prefer: Sequence[int] = (1, 2, 3),
    pause_s: float = 0.0, stops: Sequence[int] = (), **choices: object,
) -> Outcome:  # fmt: skip
    """A World of ``spans``, in which ``before`` happens first and ``at`` just before the event of that number.

    ``drafts`` is how many the client guesses itself; ``pause_s`` is how long its reader takes for each token.
    """

    async def scenario() -> Outcome:
        world = World(*spans, seed=seed, vocab=vocab, kv_tokens=kv_tokens)
        if before is not None:
            before(world)
        world.at = {event: lambda act=act: act(world) for event, act in (at or {}).items()}
        bytes_kept = Budget(budget)
        begun, tokens, error = world.clock.monotonic(), list[int](), None
        session = world.session(
            prompt, new, sampling=sampling, budget=bytes_kept, stops=stops,
            drafter=Drafter(prompt, drafts) if drafts else None, prefer=world.ids(*prefer), **choices,
        )  # fmt: skip
        async with session:
            try:
                for _ in range(new):
                    tokens.append((await session.next()).token_id)
                    if pause_s:
                        await world.clock.sleep(pause_s)
            except NoRoute as gone:
                error = gone
            assert list(session.token_ids) == tokens
        took_s, events = world.clock.monotonic() - begun, world.events
        await world.quiet()
        assert world.num_seats == 0, "a Seat was left behind"
        assert bytes_kept.used == 0, "the Journal kept bytes"
        return Outcome(tokens, session.failovers, events, took_s, session.route, world, error)

    return run_virtually(scenario())
