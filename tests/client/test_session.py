"""Promise 1 on a fake swarm: whatever happens to whichever peer at whichever message, the tokens are the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.config import ClientConfig
from client.journal import Budget
from proto.messages import Advance, Body, Chunk, Done, Entry, Hidden, Open, Opened, Token, WireDType
from swarm.errors import (
    BadNumbers,
    DeadLink,
    Draining,
    Fault,
    Internal,
    NoRoute,
    NoSeat,
    Refused,
    StaleEpoch,
    WrongModel,
)
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.client.fakes import BLOCKS, FakePeer, FakeSwarm, run, undisturbed

Event = Callable[[FakePeer], None]

NEW = 8
PENALISED = SamplingParams(temperature=0.7, seed=5, repetition_penalty=1.2, presence_penalty=0.5)


def five(**options: int) -> FakeSwarm:
    """Three peers that overlap, and two spares."""
    spans = [(0, 3), (2, 4), (4, 6), (0, 4), (2, 6)]
    return FakeSwarm(*(FakePeer(n, *span, **options) for n, span in enumerate(spans, 1)))


def first_three(config: ClientConfig | None = None) -> ClientConfig:
    return replace(config or ClientConfig(prefill_chunk=16), prefer=tuple(f"{n:032x}" for n in (1, 2, 3)))


async def tokens_of(
    swarm: FakeSwarm, *, sampling: SamplingParams | None = None, budget: Budget | None = None
) -> tuple[list[int], int]:
    """The tokens and the fail-overs of one Session that prefers the first three peers; all is given back after."""
    budget = budget or Budget(1 << 30)
    session = swarm.session(new=NEW, config=first_three(), sampling=sampling, budget=budget)
    tokens = await run(session, NEW)
    assert swarm.seats == 0, "a Seat was left behind"
    assert budget.used == 0, "the Journal kept bytes"
    return tokens, session.failovers


async def number_of_events() -> int:
    swarm = five()
    await tokens_of(swarm)
    return swarm.events


# Undisturbed.


@pytest.mark.parametrize("cuts", [(), (3,), (2, 4), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("chunk", [1, 7, 16, 100])
async def test_neither_cuts_nor_chunks_change_a_token(cuts: tuple[int, ...], chunk: int):
    borders = (0, *cuts, BLOCKS)
    peers = [FakePeer(n, a, b, max_chunk_tokens=16) for n, (a, b) in enumerate(pairwise(borders), 1)]
    swarm = FakeSwarm(*peers)
    session = swarm.session(config=ClientConfig(prefill_chunk=chunk))
    assert await run(session) == await undisturbed()
    assert session.failovers == 0
    assert swarm.seats == 0


async def test_a_pass_has_one_step_number_at_all_hops_and_numbers_rise():
    swarm = five()
    await tokens_of(swarm)
    steps: dict[str, list[int]] = {}
    for peer_id, entry in swarm.log:
        if isinstance(entry.body, Chunk):
            steps.setdefault(peer_id, []).append(entry.body.step)
    first, *others = steps.values()
    assert first == list(range(3 + NEW - 1)), "40 tokens in chunks of 16, then one step a token"
    assert all(other == first for other in others)


async def test_sampling_parameters_go_to_the_last_hop_only_and_history_only_where_it_is_needed():
    swarm = five()
    await tokens_of(swarm, sampling=PENALISED)
    opens = [entry.body for _, entry in swarm.log if isinstance(entry.body, Open)]
    assert [(o.span, o.sampling, len(o.history)) for o in opens] == [
        (Span(0, 2), None, 0),
        (Span(2, 4), None, 0),
        (Span(4, 6), PENALISED, 40),
    ]
    assert {(o.max_tokens, o.prompt_tokens) for o in opens} == {(48, 40)}


# One peer fails, at every event.

ENDS: dict[str, Event] = {
    "killed": FakePeer.kill,
    "frozen": lambda peer: setattr(peer, "frozen", True),
    "restarted": FakePeer.restart,
    "seats expired": lambda peer: peer.seats.clear(),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("when", ["at", "past"])
@pytest.mark.parametrize("budget", [1 << 30, 0], ids=["journal", "no journal"])
async def test_the_addressed_peer_fails_at_any_message(end: str, when: str, budget: int):
    expected = await undisturbed()
    for event in range(await number_of_events()):
        swarm = five()
        getattr(swarm, when)[event] = ENDS[end]
        tokens, _ = await tokens_of(swarm, budget=Budget(budget))
        assert tokens == expected, f"{end} {when} event {event}"


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("victim", [1, 2, 3])
async def test_any_peer_of_the_route_fails_at_any_message(end: str, victim: int):
    expected = await undisturbed(sampling=PENALISED)
    for event in range(3, await number_of_events()):
        swarm = five()
        lost = list(swarm.peers.values())[victim - 1]
        swarm.at[event] = lambda _, lost=lost: ENDS[end](lost)
        tokens, failovers = await tokens_of(swarm, sampling=PENALISED)
        assert tokens == expected, f"peer {victim} {end} at event {event}"
        assert failovers <= 1


async def test_after_a_loss_survivors_are_fenced_with_a_higher_epoch():
    swarm = five()
    swarm.at[20] = FakePeer.kill
    await tokens_of(swarm)
    epochs = [(peer_id[-1], entry.epoch) for peer_id, entry in swarm.log if isinstance(entry.body, Advance)]
    assert len(epochs) == 2
    assert {epoch for _, epoch in epochs} == {1}
    after = swarm.log.index(next(item for item in swarm.log if isinstance(item[1].body, Advance)))
    assert all(entry.epoch == 1 for _, entry in swarm.log[after:])


# Peers that answer, but wrongly.


def lie_about(entry: Entry, body: Body, kind: str) -> Body | None:
    """``body`` bent as ``kind`` says; None where this kind does not fit."""
    nan = b"\x00\x00\xc0\x7f"
    match kind, body:
        case "step", Chunk() | Token() | Done():
            return replace(body, step=body.step + 1)
        case "position", Chunk() | Token() | Opened():
            return replace(body, position=body.position + 1)
        case "count", Chunk():
            return replace(body, count=body.count + 1)
        case "rows", Chunk(hidden=Hidden() as hidden):
            return replace(body, hidden=replace(hidden, rows=hidden.rows + 1, data=hidden.data + hidden.data[:16]))
        case "short", Chunk(hidden=Hidden() as hidden):
            return replace(body, hidden=replace(hidden, data=hidden.data[:-1]))
        case "dtype", Chunk(hidden=Hidden() as hidden):
            return replace(
                body, hidden=Hidden(WireDType.BF16, hidden.rows, hidden.cols, hidden.data[: len(hidden.data) // 2])
            )
        case "nan", Chunk(hidden=Hidden() as hidden):
            return replace(body, hidden=replace(hidden, data=hidden.data[:-4] + nan))
        case "no rows", Chunk():
            return replace(body, hidden=None)
        case "vocabulary", Token():
            return replace(body, token_id=10**6)
        case "kind", Chunk() | Token() | Done() | Opened():
            return Advance()
        case "echo", Token() | Done() | Opened():
            return entry.body
        case _:
            return None


LIES = ["step", "position", "count", "rows", "short", "dtype", "nan", "no rows", "vocabulary", "kind", "echo"]


@pytest.mark.parametrize("kind", LIES)
async def test_an_answer_that_is_not_the_wanted_one_costs_the_peer_its_seat(kind: str):
    expected, told = await undisturbed(), 0
    for event in range(await number_of_events()):
        swarm = five()

        def bend(peer: FakePeer) -> None:
            def misdeed(entry: Entry, body: Body) -> Body:
                nonlocal told
                peer.misdeed = None
                bent = lie_about(entry, body, kind)
                told += bent is not None
                return body if bent is None else bent

            peer.misdeed = misdeed

        swarm.at[event] = bend
        tokens, _ = await tokens_of(swarm)
        assert tokens == expected, f"{kind} at event {event}"
    assert told > 5, "the lie was never told"


FAULTS: list[Fault] = [
    Internal("oops"), BadNumbers("NaN"), Draining("leaving"), NoSeat("expired"), Refused("full", 0.5), Refused("never"),
    StaleEpoch("old"), WrongModel("other"), DeadLink("gone"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{type(f).__name__} {f}")
async def test_any_fault_at_any_message_is_survived(fault: Fault):
    expected = await undisturbed()
    for event in range(await number_of_events()):
        swarm = five()

        def fail_once(peer: FakePeer) -> None:
            def misdeed(entry: Entry, body: Body) -> Body:
                peer.misdeed = None
                return fault

            peer.misdeed = misdeed

        swarm.at[event] = fail_once
        assert (await tokens_of(swarm))[0] == expected, f"event {event}"


async def test_a_busy_peer_that_still_answers_questions_is_waited_for():
    swarm = five()
    swarm.at[15] = lambda peer: setattr(peer, "slow", 3)
    tokens, failovers = await tokens_of(swarm)
    assert (tokens, failovers) == (await undisturbed(), 0)


async def test_a_peer_that_is_busy_for_ever_is_given_up():
    swarm = five()
    swarm.at[15] = lambda peer: setattr(peer, "slow", 10**6)
    tokens, failovers = await tokens_of(swarm)
    assert (tokens, failovers) == (await undisturbed(), 1)
    assert swarm.clock.monotonic() < 60


# Several fail.


@pytest.mark.parametrize("first", [4, 9, 13, 25])
async def test_replacements_that_fail_during_the_repair_are_replaced_too(first: int):
    expected = await undisturbed()
    for second in range(first + 1, first + 14):
        for third in (second + 1, second + 3):
            swarm = FakeSwarm(
                *(FakePeer(n, *s) for n, s in enumerate([(0, 3), (2, 4), (4, 6), (0, 4), (2, 6), (0, 6), (0, 6)], 1))
            )
            for event in (first, second, third):
                swarm.at[event] = FakePeer.kill
            assert (await tokens_of(swarm))[0] == expected, (first, second, third)


@pytest.mark.parametrize("budget", [1 << 30, 3000, 0])
async def test_lost_blocks_are_taken_over_by_several_peers_with_other_cuts(budget: int):
    expected = await undisturbed(sampling=PENALISED)
    for event in range(3, await number_of_events()):
        swarm = FakeSwarm(*(FakePeer(n, *s) for n, s in enumerate([(0, 2), (2, 5), (5, 6), (2, 3), (3, 4), (4, 5)], 1)))
        middle = swarm.peers[f"{2:032x}"]
        swarm.at[event] = lambda _, middle=middle: middle.kill()
        session = swarm.session(new=NEW, sampling=PENALISED, budget=Budget(budget))
        assert await run(session, NEW) == expected
        assert session.route is not None
        if session.failovers:  # not where it came too late to matter
            assert [str(hop.span) for hop in session.route.hops] == ["0:2", "2:3", "3:4", "4:5", "5:6"]
        assert swarm.seats == 0


async def test_a_peer_on_the_route_can_take_over_its_neighbours_blocks_too():
    swarm = FakeSwarm(FakePeer(1, 0, 6), FakePeer(2, 2, 4), FakePeer(3, 0, 2))
    config = ClientConfig(prefill_chunk=16, prefer=(f"{2:032x}", f"{3:032x}"))
    swarm.at[15] = lambda _: [p.kill() for n, p in enumerate(swarm.peers.values(), 1) if n > 1]
    session = swarm.session(config=config)
    assert await run(session) == await undisturbed()
    assert session.route is not None
    assert {hop.peer.peer_id for hop in session.route.hops} == {f"{1:032x}"}
    assert swarm.seats == 0


# Nobody is left.


async def test_missing_blocks_end_in_an_error_that_names_them_and_keeps_the_tokens():
    swarm = FakeSwarm(FakePeer(1, 0, 3), FakePeer(2, 3, 4), FakePeer(3, 4, 6))
    swarm.at[24] = lambda _: swarm.peers[f"{2:032x}"].kill()
    session = swarm.session()
    tokens: list[int] = []

    async def read() -> None:
        while True:
            tokens.append((await session.next()).token_id)

    async with session:
        with pytest.raises(NoRoute) as caught:
            await read()
    assert 0 < len(tokens) < NEW
    assert caught.value.missing == (Span(3, 4),)
    assert caught.value.token_ids == tuple(tokens) == tuple((await undisturbed())[: len(tokens)])
    assert "3:4" in str(caught.value) and "DeadLink" in str(caught.value)
    assert 10 <= swarm.clock.monotonic() < 12, "it waited its patience and not longer"
    assert swarm.seats == 0


async def test_the_only_holder_that_comes_back_in_time_is_asked_again():
    expected = await undisturbed()
    for wrong, right in ((FakePeer.kill, FakePeer.restart), (ENDS["frozen"], FakePeer.thaw)):
        for event in range(await number_of_events()):
            swarm = FakeSwarm(FakePeer(1, 0, 3), FakePeer(2, 3, 4), FakePeer(3, 4, 6))
            lost = swarm.peers[f"{2:032x}"]

            def happen(
                _: FakePeer, swarm: FakeSwarm = swarm, lost: FakePeer = lost, wrong: Event = wrong, right: Event = right
            ) -> None:
                wrong(lost)
                swarm.clock.alarms.append((swarm.clock.monotonic() + 7.0, lambda: right(lost)))

            swarm.at[event] = happen
            assert await run(swarm.session()) == expected, event
            assert swarm.seats == 0


async def test_blocks_that_are_announced_late_are_waited_for():
    swarm = FakeSwarm(FakePeer(1, 0, 3), FakePeer(2, 3, 6))
    swarm.hidden = {f"{2:032x}"}
    swarm.clock.alarms.append((4.0, swarm.hidden.clear))
    assert await run(swarm.session()) == await undisturbed()


async def test_a_peer_that_fails_every_time_is_not_tried_for_ever():
    peer = FakePeer(1, 0, 6)
    peer.misdeed = lambda entry, body: Internal("broken") if isinstance(entry.body, Chunk) else body
    swarm = FakeSwarm(peer)
    with pytest.raises(NoRoute, match="broken"):
        await run(swarm.session())
    assert peer.opened < 8
    assert swarm.seats == 0


# Pages.


async def test_sessions_that_do_not_fit_at_once_take_turns():
    """Two peers whose room suffices for two of ten: all-or-nothing opening, or they would block each other."""
    swarm = FakeSwarm(FakePeer(1, 0, 3, kv_tokens=100), FakePeer(2, 3, 6, kv_tokens=100))
    prompts = [tuple(range(n, n + 40)) for n in range(1, 11)]
    results = await asyncio.gather(*(run(swarm.session(prompt)) for prompt in prompts))
    assert results == [await undisturbed(prompt) for prompt in prompts]
    assert swarm.seats == 0


async def test_a_session_that_fits_nowhere_is_told_why():
    swarm = FakeSwarm(FakePeer(1, 0, 6, kv_tokens=20))
    with pytest.raises(NoRoute, match="48 wanted, 20 in all"):
        await run(swarm.session())


async def test_a_refusal_gives_back_the_seats_that_were_granted_beside_it():
    swarm = FakeSwarm(FakePeer(1, 0, 3), FakePeer(2, 3, 6, kv_tokens=60))
    blocking = swarm.session()
    waiting = swarm.session()
    async with blocking, waiting:
        await blocking.next()
        task = asyncio.create_task(waiting.next())
        held: list[int] = []
        for _ in range(200):
            await asyncio.sleep(0)
            held.append(swarm.seats)
        assert set(held) == {2, 3} and 2 in held[held.index(3) :], "the waiting one holds a Seat only while it asks"
        assert not task.done()
        blocking.close()
        await task
    assert swarm.seats == 0


async def test_the_journal_stays_within_its_budget_but_for_what_is_on_its_way():
    swarm = five()
    budget = Budget(500)
    session = swarm.session(config=first_three(), budget=budget)
    peak = 0
    async with session:
        for _ in range(NEW):
            await session.next()
            peak = max(peak, budget.used)
    assert peak <= 500 + 2 * 16 * 16
    assert budget.used == 0


# Leaving.


async def test_a_session_that_is_cancelled_anywhere_leaves_no_seat():
    for steps in range(0, 200, 3):
        swarm = five()
        swarm.at[12] = FakePeer.kill
        task = asyncio.create_task(run(swarm.session(config=first_three())))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert swarm.seats == 0, f"cancelled after {steps} turns of the loop"


async def test_closing_twice_is_closing_once():
    swarm = five()
    session = swarm.session()
    async with session:
        await session.next()
        session.close()
    assert swarm.seats == 0


# Anything at all.


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_swarms_with_random_misfortunes_say_the_same(data: st.DataObject):
    """One peer with all Blocks never fails, so there is always a way; everything else may happen at any time."""
    spans = data.draw(
        st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)).filter(lambda s: s[0] < s[1]), min_size=2, max_size=8)
    )
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    trouble = data.draw(st.sampled_from([0.02, 0.1, 0.3]))
    budget = Budget(data.draw(st.sampled_from([0, 700, 1 << 30])))
    chunk = data.draw(st.sampled_from([1, 5, 16]))

    async def scenario() -> None:
        immortal = FakePeer(1, 0, 6)
        swarm = FakeSwarm(
            immortal,
            *(FakePeer(n, *span, max_chunk_tokens=chance.choice([3, 8, 16])) for n, span in enumerate(spans, 2)),
        )
        others = [p for p in swarm.peers.values() if p is not immortal]

        def misfortune(_: FakePeer) -> None:
            if others and chance.random() < trouble:
                victim = chance.choice(others)
                chance.choice([*ENDS.values(), FakePeer.thaw, lambda p: setattr(p, "slow", chance.randrange(3))])(
                    victim
                )

        swarm.before_event = misfortune  # type: ignore[method-assign]
        prefer = tuple(p.info.peer_id for p in others)
        config = ClientConfig(prefill_chunk=chunk, prefer=prefer, max_repairs=10_000, patience_s=1e6)
        prompt = tuple(range(1, 24))
        session = swarm.session(prompt, sampling=PENALISED, budget=budget, config=config)
        assert await run(session) == await undisturbed(prompt, sampling=PENALISED)
        assert swarm.seats == 0
        assert budget.used == 0

    asyncio.run(scenario())
