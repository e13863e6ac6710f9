from __future__ import annotations

from dataclasses import replace

from client.bans import FORGET_S, Bans
from swarm.clock import VirtualClock
from tests.support.swarm import a_peer


def held_s(bans: Bans, clock: VirtualClock) -> int:
    """Whole seconds until the ban of peer 1 ends."""
    seconds = 0
    while bans.holds(a_peer(1)):
        clock.advance(1)
        seconds += 1
    return seconds


def test_each_further_ban_lasts_twice_as_long_up_to_five_minutes():
    clock = VirtualClock()
    bans = Bans(clock)
    lengths: list[int] = []
    for _ in range(7):
        bans.add(a_peer(1), "frozen")
        lengths.append(held_s(bans, clock))
    assert lengths == [30, 60, 120, 240, 300, 300, 300]


def test_many_sessions_that_tell_of_one_failure_count_once():
    clock = VirtualClock()
    bans = Bans(clock)
    for _ in range(30):
        assert bans.add(a_peer(1), "dead").strikes == 1
    assert held_s(bans, clock) == 30


def test_a_restarted_peer_is_a_new_chance():
    bans = Bans(VirtualClock())
    bans.add(a_peer(1), "dead")
    assert bans.holds(a_peer(1)) and not bans.holds(replace(a_peer(1), instance=2))


def test_a_ban_does_not_depend_on_what_else_the_peer_says():
    bans = Bans(VirtualClock())
    bans.add(a_peer(1), "dead")
    assert bans.holds(a_peer(1, sessions=5, expires_at=a_peer(1).expires_at + 10))
    assert not bans.holds(a_peer(2))


def test_to_forgive_ends_the_ban_and_its_history():
    clock = VirtualClock()
    bans = Bans(clock)
    bans.add(a_peer(1), "late")
    clock.advance(31)
    bans.add(a_peer(1), "late")
    bans.forgive(a_peer(1))
    assert not bans.holds(a_peer(1))
    assert bans.add(a_peer(1), "late").strikes == 1


def test_history_is_forgotten_after_long_good_behaviour():
    clock = VirtualClock()
    bans = Bans(clock)
    bans.add(a_peer(1), "late")
    clock.advance(30 + FORGET_S - 1)
    assert bans.add(a_peer(1), "late").strikes == 2
    clock.advance(60 + FORGET_S)
    assert bans.add(a_peer(1), "late").strikes == 1
