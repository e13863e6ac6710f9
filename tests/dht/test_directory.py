"""What every Directory promises: the same tests against the in-process twin and against hivemind."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from dht.directory import RecordDirectory
from dht.memory import MemoryDirectory, MemoryStore
from dht.node import HivemindDirectory
from dht.records import MAX_TTL_S, MODELS_KEY, TTL_S, encode_record, model_subkey, segment_keys
from swarm.clock import SystemClock
from swarm.errors import SwarmUnreachable, UsageError
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.span import Span
from tests.support.swarm import a_peer

pytestmark = pytest.mark.asyncio(loop_scope="module")


class ShiftedClock(SystemClock):
    """The system's clock, set wrong."""

    shift_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.shift_s


@dataclass
class Trio:
    """Three processes of one swarm: two Peers and, where the DHT knows such a thing, a mere client."""

    first: RecordDirectory
    second: RecordDirectory
    client: RecordDirectory
    clocks: tuple[ShiftedClock, ShiftedClock, ShiftedClock]


@pytest_asyncio.fixture(params=["memory", "hivemind"], scope="module", loop_scope="module")
async def trio(request: pytest.FixtureRequest) -> AsyncIterator[Trio]:
    clocks = (ShiftedClock(), ShiftedClock(), ShiftedClock())
    if request.param == "memory":
        store = MemoryStore(SystemClock())
        first, second, client = (MemoryDirectory(store, clock) for clock in clocks)
    else:
        first = await HivemindDirectory.create(clock=clocks[0])
        second = await HivemindDirectory.create(join=first.addresses, clock=clocks[1])
        client = await HivemindDirectory.create(join=second.addresses, client_mode=True, clock=clocks[2])
    yield Trio(first, second, client, clocks)
    for directory in (client, second, first):
        await directory.close()


class Cast:
    """One test's own model and peers, so that tests can share a swarm."""

    def __init__(self) -> None:
        self.model = ModelRef("sample", secrets.token_hex(16), 24)
        self._clock = SystemClock()

    def peer(self, span: str = "0:24", ttl_s: float = TTL_S, **changes: Any) -> PeerInfo:
        named = {"peer_id": secrets.token_hex(16), "model": self.model, "expires_at": self._clock.wall() + ttl_s}
        return a_peer(1, span, **{**named, **changes})


@pytest.fixture
def cast() -> Cast:
    return Cast()


async def seen(trio: Trio, model: ModelRef) -> set[PeerInfo]:
    """Who serves ``model``, in everybody's eyes."""
    views = [await d.view(model) for d in (trio.first, trio.second, trio.client)]
    assert views[0].peers == views[1].peers == views[2].peers
    return set(views[0].peers)


async def test_what_one_peer_publishes_all_others_see(trio: Trio, cast: Cast):
    left, right = cast.peer("0:10"), cast.peer("8:24")
    await trio.first.publish(left)
    await trio.second.publish(right)
    assert await seen(trio, cast.model) == {left, right}


async def test_an_unknown_model_has_an_empty_view(trio: Trio, cast: Cast):
    assert await seen(trio, cast.model) == set()


async def test_a_refresh_replaces_what_was_there(trio: Trio, cast: Cast):
    peer = cast.peer()
    busier = replace(peer, sessions=3, expires_at=peer.expires_at + 1)
    await trio.first.publish(peer)
    await trio.first.publish(busier)
    assert await seen(trio, cast.model) == {busier}


@pytest.mark.parametrize("earlier_s", [0.0, 5.0])
async def test_an_expiry_that_is_not_later_is_never_published(trio: Trio, cast: Cast, earlier_s: float):
    peer = cast.peer()
    await trio.first.publish(peer)
    with pytest.raises(UsageError, match="was published before"):
        await trio.first.publish(replace(peer, sessions=3, expires_at=peer.expires_at - earlier_s))
    assert await seen(trio, cast.model) == {peer}


async def test_a_withdrawn_peer_is_gone_at_once_and_may_come_back(trio: Trio, cast: Cast):
    peer, other = cast.peer(), cast.peer()
    await trio.first.publish(peer)
    await trio.second.publish(other)
    await trio.first.withdraw(peer)
    assert await seen(trio, cast.model) == {other}
    back = replace(peer, instance=2, expires_at=peer.expires_at + 0.1)
    await trio.first.publish(back)
    assert await seen(trio, cast.model) == {back, other}


async def test_a_withdrawal_holds_against_what_was_published_last_even_when_given_something_older(
    trio: Trio, cast: Cast
):
    peer = cast.peer()
    await trio.first.publish(peer)
    await trio.first.publish(replace(peer, expires_at=peer.expires_at + 5))
    await trio.first.withdraw(peer)
    assert await seen(trio, cast.model) == set()


async def test_draining_is_seen_as_such(trio: Trio, cast: Cast):
    peer = cast.peer(state=PeerState.DRAINING)
    await trio.first.publish(peer)
    assert await seen(trio, cast.model) == {peer}


async def test_a_record_that_has_expired_is_not_seen(trio: Trio, cast: Cast):
    peer = cast.peer(ttl_s=20.0)
    await trio.first.publish(peer)
    clock = trio.clocks[2]
    clock.shift_s = 21.0
    try:
        assert (await trio.client.view(cast.model)).peers == ()
        assert cast.model not in await trio.client.models()
    finally:
        clock.shift_s = 0.0
    assert (await trio.client.view(cast.model)).peers == (peer,)


@pytest.mark.parametrize("ttl_s", [-1.0, MAX_TTL_S + 1])
async def test_an_expiry_out_of_bounds_is_refused_and_spoils_nothing(trio: Trio, cast: Cast, ttl_s: float):
    with pytest.raises(UsageError, match="must expire within"):
        await trio.first.publish(cast.peer(ttl_s=ttl_s))
    assert await seen(trio, cast.model) == set()


async def test_a_record_that_is_too_large_is_refused(trio: Trio, cast: Cast):
    with pytest.raises(UsageError, match="4096 bytes"):
        await trio.first.publish(cast.peer(version="v" * 5000))


async def test_who_has_been_overtaken_by_a_later_record_is_told(trio: Trio, cast: Cast):
    peer = cast.peer()
    await trio.first.publish(replace(peer, expires_at=peer.expires_at + 10))
    with pytest.raises(SwarmUnreachable, match="later expiry"):
        await trio.second.publish(peer)


async def test_the_models_of_the_swarm_can_be_asked_for(trio: Trio, cast: Cast):
    other = ModelRef("another", secrets.token_hex(16), 12)
    await trio.first.publish(cast.peer())
    await trio.second.publish(cast.peer("0:8"))
    await trio.second.publish(cast.peer("0:12", model=other))
    for directory in (trio.first, trio.second, trio.client):
        models = await directory.models()
        assert {cast.model, other} <= set(models) and len(models) == len(set(models))


async def test_every_name_that_the_same_weights_go_by_is_listed(trio: Trio, cast: Cast):
    alias = replace(cast.model, name="shoal-sample")
    first, second = cast.peer("0:12"), cast.peer("12:24", model=alias)
    await trio.first.publish(first)
    await trio.second.publish(second)
    await trio.first.publish(replace(first, expires_at=first.expires_at + 1))
    for directory in (trio.first, trio.second, trio.client):
        assert {m for m in await directory.models() if m.fingerprint == alias.fingerprint} == {cast.model, alias}
        for name in (cast.model, alias):
            assert len((await directory.view(name)).peers) == 2


async def test_bad_records_are_dropped_and_the_good_ones_beside_them_stay(trio: Trio, cast: Cast):
    good = cast.peer()
    expires_at = good.expires_at
    await trio.first.publish(good)
    (key,) = segment_keys(cast.model, Span(0, 8))
    stranger = cast.peer("0:8")
    honest = encode_record(stranger, SystemClock().wall())
    for value, until in [
        (b"", expires_at),
        (b"\xff" * 300, expires_at),
        (honest, expires_at + 1),
        (honest[:-9], expires_at),
    ]:
        await trio.second._put({key: secrets.token_hex(16)}, value, until)
    await trio.second._put({key: secrets.token_hex(16)}, honest, stranger.expires_at)  # not its own name
    assert await seen(trio, cast.model) == {good}


async def test_a_model_is_listed_only_under_its_own_name_and_fingerprint(trio: Trio, cast: Cast):
    liar = cast.peer()
    record = encode_record(liar, SystemClock().wall())
    others = [replace(cast.model, name="other"), replace(cast.model, fingerprint=secrets.token_hex(16))]
    for subkey in (secrets.token_hex(16), cast.model.fingerprint, *map(model_subkey, others)):
        await trio.second._put({MODELS_KEY: subkey}, record, liar.expires_at)
    assert cast.model not in await trio.client.models()
