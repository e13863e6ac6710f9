"""One Seat seen from the client: what is believed, how long is waited, and that it is given back."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from client.lane import LONGEST_BUSY_S, Lane, Shape
from proto.messages import Chunk, Close, Entry, Hidden, Open, Want, WireDType
from swarm.errors import BadNumbers, BadRequest, DeadLink, Fault, Refused, Timeout
from swarm.route import Hop
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.client.fakes import BLOCKS, HIDDEN, MODEL, VOCAB, FakePeer, FakeSwarm

SHAPE = Shape(HIDDEN, VOCAB, WireDType.F32)


def opening(span: Span) -> Open:
    last = span.end == BLOCKS
    return Open(MODEL.fingerprint, "c8", span, 20, 4, sampling=SamplingParams() if last else None)


async def seat_at(swarm: FakeSwarm, span: Span, shape: Shape = SHAPE) -> Lane:
    peer = next(iter(swarm.peers.values()))
    hop = Hop(peer.info, span)
    return await Lane.open(swarm, hop, b"s" * 16, 0, opening(span), shape, max_chunk_tokens=8, timeout_s=5.0)


def step(number: int, count: int = 1, want: Want = Want.HIDDEN) -> Chunk:
    return Chunk(number, number, count, want, token_ids=(7,) * count)


async def test_a_lane_keeps_the_books_of_its_seat():
    swarm = FakeSwarm(FakePeer(1, 0, 6, max_chunk_tokens=5))
    lane = await seat_at(swarm, Span(0, 3))
    assert (lane.position, lane.last_step, lane.max_chunk_tokens) == (0, -1, 5)
    answer = await lane.take(step(0, 3), 5.0, 30.0)
    assert isinstance(answer, Chunk) and (lane.position, lane.last_step) == (3, 0)
    lane.close()
    assert swarm.seats == 0


async def test_a_refused_open_leaves_nothing_behind():
    swarm = FakeSwarm(FakePeer(1, 0, 6, kv_tokens=10))
    with pytest.raises(Refused):
        await seat_at(swarm, Span(0, 3))
    assert swarm.seats == 0


async def test_an_open_that_is_never_answered_is_taken_back_when_the_peer_wakes():
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    peer = next(iter(swarm.peers.values()))
    swarm.at[0] = lambda _: setattr(peer, "frozen", True)
    with pytest.raises(Timeout):
        await seat_at(swarm, Span(0, 3))
    peer.thaw()
    assert peer.opened == 1 and not peer.seats


async def test_a_frozen_peer_is_noticed_after_one_deadline():
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    lane = await seat_at(swarm, Span(0, 3))
    next(iter(swarm.peers.values())).frozen = True
    begun = swarm.clock.monotonic()
    with pytest.raises(Timeout):
        await lane.take(step(0), 4.0, 30.0)
    assert swarm.clock.monotonic() - begun == 4.0


async def test_a_busy_peer_gets_longer_but_not_for_ever():
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    lane = await seat_at(swarm, Span(0, 3))
    peer = next(iter(swarm.peers.values()))
    peer.slow = 5
    await lane.take(step(0), 4.0, 30.0)
    peer.slow = 100
    begun = swarm.clock.monotonic()
    with pytest.raises(Timeout):
        await lane.take(step(1), 4.0, 30.0)
    assert 30.0 <= swarm.clock.monotonic() - begun < 34.0


@pytest.mark.parametrize(
    ("block_s", "queue_tokens", "allowed_s"),
    [(0.001, 0, 30.0), (0.5, 40, 4 * 0.5 * 3 * 41), (3000.0, 10**9, LONGEST_BUSY_S)],
)
async def test_a_slow_peer_with_a_long_queue_gets_several_times_what_it_needs_by_its_own_figures(
    block_s: float, queue_tokens: int, allowed_s: float
):
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    peer = next(iter(swarm.peers.values()))
    peer.info = replace(peer.info, block_s=block_s)
    lane = await seat_at(swarm, Span(0, 3))
    peer.info = replace(peer.info, queue_tokens=queue_tokens)
    peer.slow = 10**6
    begun = swarm.clock.monotonic()
    with pytest.raises(Timeout):
        await lane.take(step(0), 3.0, 30.0)
    assert allowed_s <= swarm.clock.monotonic() - begun < allowed_s + 3.0


async def test_slowness_that_a_peer_claims_only_when_it_is_late_excuses_nothing():
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    lane = await seat_at(swarm, Span(0, 3))
    peer = next(iter(swarm.peers.values()))
    peer.info, peer.slow = replace(peer.info, block_s=3000.0), 10**6
    begun = swarm.clock.monotonic()
    with pytest.raises(Timeout):
        await lane.take(step(0), 3.0, 30.0)
    assert swarm.clock.monotonic() - begun < 33.0


async def test_a_peer_that_works_its_queue_off_is_not_left_shortly_before_it_answers():
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    peer = next(iter(swarm.peers.values()))
    peer.info = replace(peer.info, block_s=0.5)
    lane = await seat_at(swarm, Span(0, 3))
    peer.info, peer.slow = replace(peer.info, queue_tokens=40), 15
    swarm.clock.alarms.append((30.0, lambda: setattr(peer, "info", replace(peer.info, queue_tokens=0))))
    await lane.take(step(0), 4.0, 30.0)
    assert swarm.clock.monotonic() == 60.0


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", list(WireDType))
async def test_numbers_that_are_none_are_the_fault_of_who_sent_them(dtype: WireDType, number: float):
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    lane = await seat_at(swarm, Span(0, 3), Shape(HIDDEN, VOCAB, dtype))
    good = struct.pack("<f", 3.0e38)[-dtype.itemsize :] * 3  # large is not infinite
    bad = struct.pack("<f", number)[-dtype.itemsize :]

    def answering(last: bytes):
        return lambda entry, body: Chunk(
            entry.body.step, entry.body.position, 1, Want.NOTHING, hidden=Hidden(dtype, 1, HIDDEN, good + last)
        )

    peer = next(iter(swarm.peers.values()))
    peer.misdeed = answering(good[: dtype.itemsize])
    await lane.take(step(0), 5.0, 30.0)
    peer.misdeed = answering(bad)
    with pytest.raises(BadNumbers, match=r"00000000\[0:3\]"):
        await lane.take(step(1), 5.0, 30.0)


async def test_what_came_before_the_fence_is_dropped_and_what_comes_from_the_future_is_a_lie():
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    lane = await seat_at(swarm, Span(0, 3))
    peer = next(iter(swarm.peers.values()))
    (talk,) = peer.talks
    talk.inbox.append(Entry(talk.session, 0, Refused("stale news")))
    with pytest.raises(Refused):  # a Fault of the present epoch counts …
        await lane.advance(0, 5.0)
    await lane.advance(3, 5.0)
    await lane.take(step(0), 5.0, 30.0)
    talk.inbox.append(Entry(talk.session, 2, Close()))
    await lane.take(step(1), 5.0, 30.0)  # … an old entry does not
    talk.inbox.append(Entry(talk.session, 4, Close()))
    with pytest.raises(BadRequest, match="epoch 4, expected 3"):
        await lane.take(step(2), 5.0, 30.0)


async def test_closing_over_a_dead_link_is_no_error():
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    lane = await seat_at(swarm, Span(0, 3))
    next(iter(swarm.peers.values())).kill()
    with pytest.raises(DeadLink):
        await lane.take(step(0), 5.0, 30.0)
    lane.close()
    lane.close()


async def test_a_wrong_answer_says_what_was_expected_and_what_came():
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    lane = await seat_at(swarm, Span(0, 3))
    next(iter(swarm.peers.values())).misdeed = lambda entry, body: step(9)
    with pytest.raises(Fault, match=r"step 0, positions 0:1, want HIDDEN, with Chunk of step 9, positions 9:10"):
        await lane.take(step(0), 5.0, 30.0)
