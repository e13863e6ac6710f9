"""Promise 1 on virtual time: whichever Hop is lost at whichever event, the tokens are the same."""

from __future__ import annotations

import random

import pytest

from proto.messages import Advance
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.client.sessions import PENALISED, SHAPES, THREE, Act, expire, freeze, kill, play, restart
from tests.support.hash_engine import undisturbed
from tests.support.world import NEW, PROMPT, World

ENDS = {"killed": kill, "frozen": freeze, "restarted": restart, "expired": expire}
SMALL = tuple(range(1, 14))  # a prompt of three Chunks …
FEW = 4  # … and as many tokens
SPARES = ((0, 3), (2, 4), (4, 6), (0, 4), (1, 6))  # three that overlap, and two with other cuts


def small(shape: str, at: dict[int, Act] | None = None, **choices: object):
    return play(shape=shape, at=at, prompt=SMALL, new=FEW, prefill_chunk=5, **choices)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("end", ["killed", "frozen"])
@pytest.mark.parametrize("victim", [1, 2, 3])
def test_any_hop_is_lost_at_any_event(shape: str, end: str, victim: int):
    expected, events = undisturbed(SMALL, FEW), small(shape).events
    assert events > 30
    for event in range(events):
        outcome = small(shape, {event: ENDS[end](victim)})
        assert outcome.tokens == expected, f"{victim} {end} at event {event}"
        assert outcome.failovers <= 1
        assert outcome.took_s < 5.0, f"{victim} {end} at event {event} took {outcome.took_s:.1f} s"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("end", ["restarted", "expired"])
def test_any_hop_forgets_everything_at_any_event(shape: str, end: str):
    """Nobody else has its Blocks: it is asked again."""
    expected, events = undisturbed(SMALL, FEW, PENALISED), small(shape, sampling=PENALISED).events
    for event in range(0, events, 2):
        outcome = small(shape, {event: ENDS[end](1 + event // 2 % 3)}, sampling=PENALISED, spans=THREE)
        assert outcome.tokens == expected, f"{end} at event {event}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("budget", [1 << 30, 500, 0])
def test_what_is_lost_is_taken_over_with_other_cuts(shape: str, budget: int):
    expected = undisturbed(PROMPT, NEW, PENALISED)
    events = play(SPARES, shape=shape, sampling=PENALISED, budget=budget).events
    for event in range(6, events, 5):
        for victim in (1, 2, 3):
            outcome = play(SPARES, shape=shape, sampling=PENALISED, budget=budget, at={event: freeze(victim)})
            assert outcome.tokens == expected, f"{victim} at event {event}"


@pytest.mark.parametrize("shape", SHAPES)
def test_two_are_lost_in_a_row_the_second_often_during_the_repair(shape: str):
    expected, events = undisturbed(SMALL, FEW), small(shape).events
    chance = random.Random(f"two in {shape}")
    for _ in range(150):
        first = chance.randrange(events)
        second = first + 1 + chance.randrange(12)
        victims = chance.sample(range(1, 7), 2)
        if abs(victims[0] - victims[1]) == 3:
            continue  # both that have these Blocks
        acts = [chance.choice([kill, freeze])(victim) for victim in victims]
        outcome = small(shape, dict(zip((first, second), acts, strict=True)))
        assert outcome.tokens == expected, f"{victims} at {first} and {second}"


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_blocks_are_lost_twice(shape: str):
    three_times = THREE * 3
    for event in range(6, 60, 2):
        for victim in (1, 2, 3):
            at = {event: kill(victim), event + 9: kill(victim + 3)}
            assert play(three_times, shape=shape, at=at).tokens == undisturbed(PROMPT, NEW)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_hops_but_one_are_lost_at_once(shape: str):
    def leave(number: int) -> Act:
        def act(world: World) -> None:
            for peer in world.list[:3]:
                if peer.number != number:
                    peer.kill()

        return act

    for event in range(10, 80, 4):
        for number in (1, 2, 3):
            outcome = play(shape=shape, at={event: leave(number)})
            assert outcome.tokens == undisturbed(PROMPT, NEW), f"all but {number} at {event}"


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_do_not_disturb_drafts(shape: str):
    """Of two tokens, every other guess is right: something is rolled back all the time."""
    sampling = SamplingParams(temperature=1.0, seed=3)
    own = {"draft_tokens": 4} if shape == "ring" else {"drafts": 4}
    prompt, new = (0, 1) * 10, 20
    expected = undisturbed(prompt, new, sampling, vocab=2)
    for event in range(10, 130, 4):
        for victim in (1, 2, 3):
            at = {event: (kill, freeze)[event // 4 % 2](victim)}
            outcome = play(shape=shape, prompt=prompt, new=new, vocab=2, sampling=sampling, at=at, **own)
            assert outcome.tokens == expected, f"{victim} at event {event}"


@pytest.mark.parametrize("shape", SHAPES)
def test_after_a_loss_survivors_are_fenced_with_a_higher_epoch(shape: str):
    log = play(shape=shape, at={40: kill(2)}).world.log
    fences = [(number, entry.epoch) for number, entry in log if isinstance(entry.body, Advance)]
    assert sorted(fences) == [(1, 1), (3, 1)]
    seats = {entry.session for number, entry in log if isinstance(entry.body, Advance)}
    fenced: set[bytes] = set()
    for _, entry in log:
        if entry.session in seats:
            fenced |= {entry.session} if isinstance(entry.body, Advance) else set()
            assert entry.session not in fenced or entry.epoch == 1, "nothing of the old epoch comes after the fence"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frozen_hop_costs_three_seconds_and_a_killed_one_none(shape: str):
    for event in range(12, 80, 3):
        for victim in (1, 2, 3):
            quick = play(shape=shape, at={event: kill(victim)})
            slow = play(shape=shape, at={event: freeze(victim)})
            assert quick.took_s < 1.5 + (1.0 if shape != "star" else 0.0), f"{victim} killed at {event}"
            assert slow.took_s < 1.0 + 3.0 + 0.5, f"{victim} frozen at {event}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("apart", [1, 5, 30, 90])
def test_a_zombie_that_thaws_after_it_was_replaced_writes_nothing(shape: str, apart: int):
    """What it had on its way, and what it had not yet read, comes to live Seats then: all of it is of an old epoch."""
    for event in range(8, 70, 3):
        for victim in (1, 2, 3):
            at = {event: freeze(victim), event + apart: lambda world, victim=victim: world.list[victim - 1].thaw()}
            assert play(shape=shape, at=at).tokens == undisturbed(PROMPT, NEW), f"{victim} at event {event}"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_peer_on_the_route_can_take_over_its_neighbours_blocks_too(shape: str):
    for event in range(10, 70, 5):
        outcome = play([(0, 6), (0, 2), (2, 4)], prefer=(2, 3), shape=shape, at={
            event: lambda world: [world.list[n].kill() for n in (1, 2)]
        })  # fmt: skip
        assert outcome.tokens == undisturbed(PROMPT, NEW)
        assert outcome.route is not None and {hop.peer.peer_id for hop in outcome.route.hops} == {f"{1:032x}"}


def test_the_route_after_a_loss_has_the_new_hops_in_order():
    outcome = play([(0, 2), (2, 5), (5, 6), (2, 3), (3, 4), (4, 5)], at={30: kill(2)})
    assert outcome.route is not None
    assert [hop.span for hop in outcome.route.hops] == [Span(0, 2), *(Span(b, b + 1) for b in range(2, 6))]
