"""A prompt that was there before: what is found again, by whom, and that it never changes a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from client.prefixes import Prefixes
from proto.messages import Chunk, Entry, Kept, Open
from tests.client.sessions import SHAPES, THREE, TWICE, Act, freeze, kill, restart
from tests.support.hash_engine import undisturbed
from tests.support.virtual_loop import run_virtually, virtually
from tests.support.world import NEW, PAGE, PROMPT, World

FOUND = (len(PROMPT) - 1) // PAGE * PAGE


class Reader:
    """Sessions of one client, one after the other."""

    def __init__(self, world: World, client: str = "c" * 32, prefixes: Prefixes | None = None):
        self.world, self.client = world, client
        self.prefixes = Prefixes(PAGE) if prefixes is None else prefixes
        self.failovers = 0
        self._seeds = count(1)

    async def read(
        self, prompt: Sequence[int] = PROMPT, new: int = NEW, prefer: Sequence[int] = (1, 2, 3), **choices: object
    ) -> int:
        """``cached_tokens``. The tokens are right."""
        session = self.world.session(
            prompt, new, prefixes=self.prefixes, client=self.client, seed=hash(self.client) % 1000 + next(self._seeds),
            prefer=self.world.ids(*prefer), **choices,  # type: ignore[arg-type]
        )  # fmt: skip
        vocab = self.world.list[0]._vocab
        async with session:
            tokens = [(await session.next()).token_id for _ in range(new)]
        assert tokens == undisturbed(prompt, new, vocab=vocab)
        self.failovers = session.failovers
        return session.cached_tokens


def computed(world: World, number: int) -> int:
    """Positions that a peer was given to compute."""
    return sum(e.body.count for n, e in world.log if n == number and isinstance(e.body, Chunk))


@pytest.mark.parametrize("shape", SHAPES)
@virtually
async def test_a_prompt_that_was_there_before_is_found_at_every_hop(shape: str):
    world = World(*THREE)
    reader = Reader(world)
    assert await reader.read(shape=shape) == 0
    first, _ = [computed(world, n) for n in (1, 2, 3)], world.log.clear()
    assert await reader.read(shape=shape) == FOUND == 32
    assert [computed(world, n) for n in (1, 2, 3)] == [positions - FOUND for positions in first]
    assert await reader.read((*PROMPT[:20], 7, 8, 9), shape=shape) == 16
    assert await reader.read((9, *PROMPT), shape=shape) == 0
    await world.quiet()
    assert world.num_seats == 0


@pytest.mark.parametrize("shape", SHAPES)
@virtually
async def test_a_conversation_finds_its_own_answers(shape: str):
    world = World(*THREE)
    reader, talk, computed_before = Reader(world), list(PROMPT), 0
    for _ in range(4):
        assert await reader.read(talk, 17, shape=shape) == computed_before // PAGE * PAGE
        talk += undisturbed(talk, 17)
        computed_before = len(talk) - 1  # what was drawn last went to nobody
        talk += [1, 2, 3, 4]


@virtually
async def test_drafts_that_failed_are_in_nobodys_prefix():
    """Of two tokens, every other guess is wrong: what was rolled back must not be found."""
    world, prompt = World(*THREE, vocab=2), (0, 1) * 20
    reader = Reader(world)
    await reader.read(prompt, 30, draft_tokens=4)
    answer = undisturbed(prompt, 30, vocab=2)
    assert await reader.read((*prompt, *answer), 20, draft_tokens=4) >= len(prompt)
    assert await reader.read((*prompt, *answer[:17]), 20) >= len(prompt)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", [kill, freeze, restart])
def test_whoever_is_lost_meanwhile_a_found_prefix_changes_no_token(shape: str, how: type[Act]):
    async def scenario(victim: int, event: int) -> int:
        world = World(*TWICE)
        reader = Reader(world)
        await reader.read(shape=shape)
        world.at[world.events + event] = lambda: how(victim)(world)  # type: ignore[call-arg, operator]
        assert await reader.read(shape=shape) in (0, FOUND)
        failovers = reader.failovers
        await world.quiet()
        await reader.read(shape=shape)
        await world.quiet()
        assert world.num_seats == 0
        return failovers

    lost = [run_virtually(scenario(victim, event)) for victim in (1, 2, 3) for event in range(1, 30, 4)]
    assert sum(lost) > len(lost) // 2


# Who may find it.


@pytest.mark.parametrize("shape", SHAPES)
@virtually
async def test_clients_never_share_even_if_one_knows_the_others_names(shape: str):
    world, prefixes = World(*THREE), Prefixes(PAGE)
    assert await Reader(world, "a" * 32, prefixes).read(shape=shape) == 0
    world.log.clear()
    assert await Reader(world, "b" * 32, prefixes).read(shape=shape) == 0
    claims = [len(entry.body.prefix) for _, entry in world.log if isinstance(entry.body, Open)]
    assert claims and min(claims) >= 4, "it claimed them"
    assert await Reader(world, "a" * 32, prefixes).read(shape=shape) == FOUND


@virtually
async def test_behind_another_peer_upstream_nothing_is_claimed():
    world = World(*TWICE)
    reader = Reader(world)
    await reader.read(prefer=(1, 2, 3))
    world.log.clear()
    assert await reader.read(prefer=(4, 2, 3)) == 0
    claims = {number: len(entry.body.prefix) for number, entry in world.log if isinstance(entry.body, Open)}
    assert claims == {4: 0, 2: 0, 3: 0}
    assert await reader.read(prefer=(1, 2, 3)) == await reader.read(prefer=(4, 2, 3)) == FOUND
    assert await reader.read(prefer=(1, 2, 6)) == 0
    world.log.clear()
    assert await reader.read(prefer=(1, 2, 6)) == FOUND


@virtually
async def test_a_peer_that_sends_wrong_activations_spoils_only_what_goes_through_it():
    world, reader = World(*TWICE), None

    def lie(entry: Entry) -> Entry:
        body = entry.body
        if isinstance(body, Chunk) and body.hidden is not None:
            hidden = body.hidden
            return replace(entry, body=replace(body, hidden=replace(hidden, data=bytes(len(hidden.data)))))
        return entry

    reader = Reader(world)
    world.list[0].bend = lie
    session = world.session(prefixes=reader.prefixes, prefer=world.ids(1, 2, 3))
    async with session:
        assert [(await session.next()).token_id for _ in range(NEW)] != undisturbed(PROMPT, NEW)
    world.list[0].bend = None
    assert await reader.read(prefer=(4, 2, 3)) == 0
    assert await reader.read(prefer=(4, 2, 3)) == FOUND


@pytest.mark.parametrize("victim", [1, 2, 3])
@virtually
async def test_names_that_a_peer_makes_up_lead_nowhere(victim: int):
    world = World(*THREE)
    reader = Reader(world)

    def lie(entry: Entry) -> Entry:
        if isinstance(entry.body, Kept):
            return replace(entry, body=replace(entry.body, digests=(bytes(16),) * len(entry.body.digests)))
        return entry

    world.list[victim - 1].bend = lie
    await reader.read()
    assert await reader.read() == 0


@virtually
async def test_names_of_pages_that_are_not_there_yet_are_no_trouble():
    world = World(*THREE)
    reader = Reader(world)

    def boast(entry: Entry) -> Entry:
        if isinstance(entry.body, Kept):
            return replace(entry, body=Kept(entry.body.first + 1000, (bytes(16),) * 50))
        return entry

    world.list[1].bend = boast
    await reader.read()
    assert await reader.read() == 0


# Until when.


@pytest.mark.parametrize("victim", [1, 2, 3])
@virtually
async def test_a_peer_that_was_restarted_has_forgotten(victim: int):
    world = World(*THREE)
    reader = Reader(world)
    await reader.read()
    restart(victim)(world)
    assert await reader.read() == 0
    assert await reader.read() == FOUND


@virtually
async def test_under_pressure_what_was_not_used_for_longest_goes_first():
    world = World(*THREE, kv_tokens=96)  # 12 Pages; a Session takes 6
    reader = Reader(world)
    other, third = tuple(range(101, 141)), tuple(range(201, 241))
    await reader.read()
    await reader.read(other)
    assert await reader.read() == FOUND
    await reader.read(third)
    assert await reader.read() == FOUND
    assert await reader.read(other) < FOUND, "evicted for the third"


@virtually
async def test_what_a_session_of_another_length_left_is_found_as_far_as_it_goes():
    world = World(*THREE, kv_tokens=200)
    reader = Reader(world)
    for length in (3, 40, 17, 8, 9, 33, 16, 40):
        cached = await reader.read(PROMPT[:length], 3)
        assert cached <= (length - 1) // PAGE * PAGE
    assert cached == FOUND
