"""How long a Session waits for whom."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from client.config import ClientConfig
from client.vigil import LONGEST_BUSY_S, Vigil
from swarm.clock import VirtualClock
from swarm.peerinfo import PeerInfo
from swarm.route import Hop
from swarm.span import Span
from tests.support.hash_engine import hash_peer


@dataclass
class Place:
    """The part of a Lane that is looked at."""

    hop: Hop
    max_chunk_tokens: int = 8

    @property
    def span(self) -> Span:
        return self.hop.span


class Answers:
    """What peers say of themselves; None for those that do not."""

    def __init__(self, **said: PeerInfo | None):
        self.said = {f"{int(number.strip('_')):032x}": info for number, info in said.items()}

    async def responsive(self, peer: PeerInfo) -> PeerInfo | None:
        return self.said[peer.peer_id]


def place(number: int, block_s: float = 0.001) -> Place:
    return Place(Hop(replace(hash_peer(number, 0, 3), block_s=block_s), Span(0, 3)))


def vigil_of(answers: Answers) -> tuple[Vigil, VirtualClock]:
    clock = VirtualClock()
    return Vigil(answers, ClientConfig(busy_timeout_s=10.0), clock), clock  # type: ignore[arg-type]


async def test_who_does_not_answer_is_frozen():
    one, other = place(1), place(2)
    vigil, _ = vigil_of(Answers(_1=None, _2=other.hop.peer))
    assert await vigil.look([one, other]) == [one]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("block_s", "queue_tokens", "allowed_s"),
    [(0.001, 0, 10.0), (0.5, 40, 4 * 0.5 * 3 * 48), (3000.0, 10**9, LONGEST_BUSY_S)],
)
async def test_the_busy_get_several_times_what_they_need_by_their_own_figures(
    block_s: float, queue_tokens: int, allowed_s: float
):
    lane = place(1, block_s)
    vigil, clock = vigil_of(Answers(_1=replace(lane.hop.peer, queue_tokens=queue_tokens)))
    assert await vigil.look([lane]) == []  # type: ignore[list-item]
    clock.advance(allowed_s - 0.1)
    assert not vigil.overdue
    clock.advance(0.1)
    assert vigil.overdue
    vigil.heard()
    assert not vigil.overdue and vigil.waited_s == 0


async def test_slowness_that_is_claimed_only_when_late_excuses_nothing():
    lane = place(1)
    vigil, clock = vigil_of(Answers(_1=replace(lane.hop.peer, block_s=3000.0)))
    await vigil.look([lane])  # type: ignore[list-item]
    clock.advance(10.0)
    assert vigil.overdue


async def test_who_works_its_queue_off_is_not_left_shortly_before_it_answers():
    lane = place(1, 0.5)
    answers = Answers(_1=replace(lane.hop.peer, queue_tokens=40))
    vigil, clock = vigil_of(answers)
    await vigil.look([lane])  # type: ignore[list-item]
    clock.advance(60.0)
    answers.said[lane.hop.peer.peer_id] = lane.hop.peer
    await vigil.look([lane])  # type: ignore[list-item]
    assert not vigil.overdue, "its queue is short now, but what it was promised stays"


async def test_all_that_are_busy_count_together():
    lanes = [place(1, 0.5), place(2, 0.5)]
    vigil, clock = vigil_of(Answers(_1=lanes[0].hop.peer, _2=lanes[1].hop.peer))
    await vigil.look(lanes)  # type: ignore[arg-type]
    clock.advance(2 * 4 * 0.5 * 3 * 8 - 0.1)
    assert not vigil.overdue
