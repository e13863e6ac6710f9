"""Whom a Session asks, whom it leaves alone and for how long, and when it stops waiting."""

from __future__ import annotations

import pytest

from client.config import ClientConfig
from client.pathfinder import Pathfinder
from swarm.errors import BadGrammar, DeadLink, Draining, Fault, Internal, NoRoute, NoSeat, Refused, Timeout, WrongModel
from swarm.span import Span
from tests.client.scouting import Announced
from tests.support.hash_engine import hash_peer

ALL = (Span(0, 6),)


def two(**options: int) -> Announced:
    return Announced(hash_peer(1, 0, 6, **options), hash_peer(2, 0, 6, **options))


def finder(swarm: Announced, **changes: object) -> Pathfinder:
    return Pathfinder(swarm, "c8", 48, ClientConfig(**changes), swarm.clock, 0.25)  # type: ignore[arg-type]


async def chosen(paths: Pathfinder) -> int:
    (route,) = await paths.plan(ALL)
    return int(route.hops[0].peer.peer_id, 16)


def peer(swarm: Announced, number: int):
    return swarm.infos[f"{number:032x}"]


@pytest.mark.parametrize(
    "fault", [DeadLink("x"), Timeout("x"), Internal("x"), Draining("x"), Refused("x"), Refused("x", 0.5)]
)
async def test_a_peer_that_failed_is_left_out_while_there_is_another(fault: Fault):
    swarm = two()
    paths = finder(swarm)
    assert await chosen(paths) == 1
    paths.blame(peer(swarm, 1), fault)
    assert await chosen(paths) == 2
    assert swarm.clock.monotonic() == 0, "nobody waited"


async def test_a_lost_seat_is_not_the_peers_fault_the_first_time():
    swarm = two()
    paths = finder(swarm)
    paths.blame(peer(swarm, 1), NoSeat("expired"))
    assert await chosen(paths) == 1 and not swarm.banned
    paths.blame(peer(swarm, 1), NoSeat("expired"))
    assert await chosen(paths) == 2


async def test_other_sessions_hear_of_failures_but_not_of_full_houses():
    swarm = two()
    paths = finder(swarm)
    paths.blame(peer(swarm, 1), Refused("full", 0.5))
    assert await chosen(finder(swarm)) == 1
    paths.blame(peer(swarm, 1), DeadLink("gone"))
    assert await chosen(finder(swarm)) == 2


async def test_the_only_holder_is_asked_again_after_a_pause_that_grows():
    swarm = Announced(hash_peer(1, 0, 6))
    paths = finder(swarm, patience_s=100.0)
    pauses: list[float] = []
    for _ in range(4):
        begun = swarm.clock.monotonic()
        paths.blame(peer(swarm, 1), DeadLink("gone"))
        await paths.plan(ALL)
        pauses.append(swarm.clock.monotonic() - begun)
    assert all(expected <= pause < expected + 1.1 for pause, expected in zip(pauses, (1, 2, 4, 8), strict=True)), pauses


async def test_a_restarted_peer_is_a_new_chance_at_once():
    swarm = Announced(hash_peer(1, 0, 6))
    paths = finder(swarm)
    paths.blame(peer(swarm, 1), WrongModel("never again"))
    swarm.restart(f"{1:032x}")
    assert await chosen(paths) == 1


async def test_work_done_is_forgiveness():
    swarm = two()
    paths = finder(swarm)
    paths.blame(peer(swarm, 1), Timeout("late"))
    (route,) = await finder(Announced(hash_peer(1, 0, 6))).plan(ALL)
    assert swarm.banned
    paths.relieve(route.hops)
    assert not swarm.banned and paths.failures == 0


async def test_patience_ends_with_the_blocks_and_the_last_fault():
    swarm = Announced(hash_peer(1, 0, 6))
    paths = finder(swarm, patience_s=3.0)
    paths.blame(peer(swarm, 1), WrongModel("another model"))
    with pytest.raises(NoRoute, match=r"0:6.*WrongModel: another model") as caught:
        await paths.plan(ALL)
    assert caught.value.missing == ALL
    assert 3.0 <= swarm.clock.monotonic() < 4.0


@pytest.mark.parametrize("peers", [1, 20])
async def test_for_free_pages_it_waits_longer_than_for_peers_but_not_for_ever_however_many_are_full(peers: int):
    swarm = Announced(*(hash_peer(n, 0, 6) for n in range(1, peers + 1)))
    paths = finder(swarm, patience_s=3.0, admission_timeout_s=20.0)

    async def knock() -> None:
        while swarm.clock.monotonic() < 1000:
            asked = await chosen(paths)
            swarm.clock.advance(0.1)  # to ask takes a moment, and by then another one may be asked again
            paths.blame(peer(swarm, asked), Refused("no room", 0.5))

    with pytest.raises(NoRoute, match="no room"):
        await knock()
    assert 20.0 <= swarm.clock.monotonic() < 22.0


async def test_work_is_not_waiting_and_what_was_waited_for_one_token_adds_up():
    swarm = Announced(hash_peer(1, 0, 6))
    paths = finder(swarm, patience_s=10.0, admission_timeout_s=20.0)

    async def lose_after(seconds: float) -> None:
        paths.settle()
        swarm.clock.advance(seconds)
        paths.blame(peer(swarm, 1), DeadLink("gone"))
        await paths.plan(ALL)

    for _ in range(3):  # a long prefill, say, and pauses of 1, 2 and 4 s
        await lose_after(1000.0)
    with pytest.raises(NoRoute, match="gone"):
        await lose_after(1000.0)  # 8 s more would be too many
    paths = finder(swarm, patience_s=10.0)
    for _ in range(20):
        await lose_after(1000.0)
        paths.relieve(())  # a token came
        swarm.restart(f"{1:032x}")  # and the next pause is short again


async def test_hops_that_fail_in_a_row_are_counted_and_bounded():
    swarm = two()
    paths = finder(swarm, max_repairs=5)
    for _ in range(6):
        paths.blame(peer(swarm, 1), NoSeat("again"))
    with pytest.raises(NoRoute, match="6 hops failed in a row"):
        await paths.plan(ALL)


async def test_peers_that_claim_to_be_full_are_asked_last_but_asked():
    swarm = Announced(hash_peer(1, 0, 6, kv_tokens=10), hash_peer(2, 0, 6))
    assert await chosen(finder(swarm)) == 2
    swarm.hidden = {f"{2:032x}"}
    assert await chosen(finder(swarm)) == 1


async def test_preferred_peers_are_taken_where_they_can_and_may_be_named_by_how_they_begin():
    swarm = Announced(hash_peer(1, 0, 6), hash_peer(2, 0, 3), hash_peer(3, 3, 6), hash_peer(int("4" * 32, 16), 3, 6))
    (route,) = await finder(swarm, prefer=(f"{2:032x}", "4" * 8)).plan(ALL)
    assert [h.peer.peer_id[-1] for h in route.hops] == ["2", "4"]


async def test_a_bad_grammar_is_the_callers_fault_and_is_told_at_once_when_all_have_said_so():
    swarm = two()
    paths = finder(swarm)
    paths.blame(peer(swarm, 1), BadGrammar("grammar: no"))
    assert await chosen(paths) == 2, "one peer may lie"
    paths.blame(peer(swarm, 2), BadGrammar("grammar: no"))
    with pytest.raises(BadGrammar, match="grammar: no"):
        await paths.plan(ALL)
    assert not swarm.banned and swarm.clock.monotonic() == 0, "and nobody is avoided for it"
