from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from client.config import ClientConfig
from client.crew import Crew
from client.lane import Lane, Shape
from client.mailbox import Mailbox
from proto.messages import Fork, Open, Path, WireDType
from swarm.errors import DeadLink, Fault, Refused, Timeout
from swarm.route import Hop
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.client.sessions import THREE
from tests.support.hash_engine import HIDDEN, MODEL, VOCAB
from tests.support.virtual_loop import virtually
from tests.support.world import CLIENT, World, _Lines

WHOLE = Span(0, 6)


class Troupe:
    """A Crew in a World, and whom it blamed."""

    def __init__(self, world: World, name: bytes = b"n" * 12):
        self.world = world
        self.blamed: list[tuple[str, Fault]] = []
        self.hops = tuple(Hop(peer.info, peer.info.span) for peer in world.list)
        self.crew = Crew(
            name, _Lines(world, CLIENT), Shape(HIDDEN, VOCAB, WireDType.F32), ClientConfig(), Mailbox(),
            lambda hop, fault: self.blamed.append((hop.peer.peer_id, fault)),
        )  # fmt: skip

    async def build(self, *numbers: int) -> None:
        await self.crew.build([self.hops[n - 1] for n in numbers], self.opening)

    def opening(self, hop: Hop, route: Sequence[Hop]) -> Open:
        assert list(route) == sorted(route, key=lambda each: each.span)
        drawing = SamplingParams() if hop.span.end == 6 else None
        return Open(MODEL.fingerprint, "c8", hop.span, 48, 8, sampling=drawing, num_hops=len(route))

    async def fork(self, other: Crew) -> None:
        await self.crew.fork(other, self.forking)

    def forking(self, lane: Lane, seat: bytes) -> Fork:
        return Fork(seat, 0, 0, SamplingParams() if lane.span.end == 6 else None)

    @property
    def numbers(self) -> list[int]:
        return [int(lane.hop.peer.peer_id, 16) for lane in self.crew.lanes]

    def seats(self) -> list[int]:
        return [len(peer.seats) for peer in self.world.list]


@virtually
async def test_seats_are_opened_at_once_and_stand_in_order():
    world = World(*reversed(THREE))
    troupe = Troupe(world)
    begun = world.clock.monotonic()
    await troupe.build(1, 2, 3)
    assert world.clock.monotonic() - begun < 0.03, "one after the other"
    assert troupe.numbers == [3, 2, 1] and troupe.crew.covers(WHOLE) and troupe.crew.epoch == 0
    assert len({lane.seat for lane in troupe.crew.lanes}) == 3, "each Seat has an id of its own"
    troupe.crew.close()
    troupe.crew.close()
    await world.quiet()
    assert troupe.seats() == [0, 0, 0]


@virtually
async def test_who_fails_is_blamed_and_the_others_stay():
    world = World(*THREE)
    troupe = Troupe(world)
    pool = world.list[1].seats.housing.pool
    pool.promise(pool.promisable)
    world.list[2].kill()
    await troupe.build(1, 2, 3)
    assert troupe.numbers == [1] and not troupe.crew.covers(WHOLE)
    assert {number: type(fault) for number, fault in troupe.blamed} == {
        troupe.hops[1].peer.peer_id: Refused, troupe.hops[2].peer.peer_id: DeadLink,
    }  # fmt: skip


@virtually
async def test_a_detour_raises_the_epoch_of_all_and_a_silent_one_is_lost():
    world = World(*THREE, (2, 4))
    troupe = Troupe(world)
    await troupe.build(1, 2, 3)
    assert troupe.crew.lose(troupe.crew.lanes[1])
    world.list[2].freeze()
    await troupe.build(4)
    assert troupe.numbers == [1, 4] and troupe.crew.epoch == 1
    assert [type(fault) for _, fault in troupe.blamed] == [Timeout]
    assert {seat.epoch for peer in world.list for seat in peer.seats if peer is not world.list[2]} == {1}


@virtually
async def test_what_was_agreed_is_not_asked_again_until_something_was_sent():
    world = World(*THREE)
    troupe = Troupe(world)
    await troupe.build(1, 2, 3)
    await troupe.build()
    assert troupe.crew.epoch == 0
    troupe.crew.moved()
    await troupe.build()
    assert troupe.crew.epoch == 1
    await troupe.crew.fence()
    assert troupe.crew.epoch == 2 and {seat.epoch for peer in world.list for seat in peer.seats} == {2}


@virtually
async def test_a_lane_is_lost_once():
    troupe = Troupe(World(*THREE))
    await troupe.build(1, 2, 3)
    lane = troupe.crew.lanes[0]
    assert troupe.crew.lose(lane) and not troupe.crew.lose(lane)


@virtually
async def test_a_fork_has_seats_of_its_own_and_the_epoch_of_the_other():
    world = World(*THREE)
    one, other = Troupe(world), Troupe(world, b"o" * 12)
    await one.build(1, 2, 3)
    await one.crew.fence()
    await other.fork(one.crew)
    assert other.crew.covers(WHOLE) and other.crew.epoch == one.crew.epoch == 1
    assert troupe_seats(one).isdisjoint(troupe_seats(other))
    one.crew.close()
    await world.quiet()
    assert other.seats() == [1, 1, 1]
    await other.build()
    other.crew.lanes[0].send(Path(0, None, 0))
    other.crew.close()
    await world.quiet()
    assert other.seats() == [0, 0, 0]


def troupe_seats(troupe: Troupe) -> set[bytes]:
    return {lane.seat for lane in troupe.crew.lanes}


@virtually
async def test_where_a_fork_is_refused_there_is_no_lane_and_the_forked_one_hears_nothing():
    world = World(*THREE)
    one, other = Troupe(world), Troupe(world, b"o" * 12)
    await one.build(1, 2, 3)
    pool = world.list[1].seats.housing.pool
    pool.promise(pool.promisable)
    begun = world.clock.monotonic()
    await other.fork(one.crew)
    assert world.clock.monotonic() - begun < 0.1, "the refusal came to whom it concerns"
    assert other.numbers == [1, 3] and not other.blamed
    with pytest.raises(Timeout):
        await one.crew._mailbox.get(1.0)
    pool.forgive(pool.owed - 6)
    await other.build(2)
    assert other.crew.covers(WHOLE) and other.crew.epoch == 2 - 1


@virtually
async def test_a_fork_that_is_given_up_leaves_no_seat():
    world = World(*THREE)
    one = Troupe(world)
    await one.build(1, 2, 3)
    world.list[2].freeze()
    for number in range(10):
        other = Troupe(world, bytes([number]) * 12)
        task = asyncio.create_task(other.fork(one.crew))
        await asyncio.sleep(0.004 * number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not other.crew.lanes
    await world.quiet()
    assert one.seats() == [1, 1, 1]
