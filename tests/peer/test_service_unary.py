"""What a Peer answers beside its Links: Info, Assets, health, reflection."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from model.assets import Asset
from proto.messages import AssetRef
from swarm.errors import NoSeat
from tests.support.compute import FakeRunner
from tests.support.echo import Talk
from tests.support.hosts import PEER_ID, Host, hosting
from tests.support.seats import opening, terms

A = b"a" * 16
SOON = 10.0
ASSET = Asset("tokenizer.json", hashlib.sha256(b"{}" * 300_000).hexdigest(), b"{}" * 300_000)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with hosting(FakeRunner(), terms(), assets=[ASSET]) as host:
        yield host


async def test_info_is_fresh_from_the_books(host: Host):
    before = await host.connection.info()
    talk = Talk(await host.link(), A)
    talk.send(0, opening(max_tokens=9))
    await talk.receive()
    after = await host.connection.info()
    assert (before.peer.kv_tokens_free, before.peer.sessions) == (256, 0)
    assert (after.peer.kv_tokens_free, after.peer.sessions) == (256 - 12, 1)
    assert after.assets == (AssetRef("tokenizer.json", ASSET.sha256, 600_000),)


async def test_an_asset_comes_whole_by_its_digest_and_an_unknown_one_not_at_all(host: Host):
    ref = AssetRef("tokenizer.json", ASSET.sha256, len(ASSET.data))
    assert await host.connection.asset(ref) == ASSET.data
    with pytest.raises(NoSeat, match="no asset"):
        await host.connection.asset(AssetRef("x", "0" * 64, 5))


async def test_garbage_towards_a_unary_call_is_that_calls_affair(host: Host):
    async with grpc.aio.insecure_channel(host.address) as channel:
        for method in ("Asset", "NoSuchThing"):
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(f"/shoal.v1.Peer/{method}")(b"\xff" * 30, timeout=SOON)
        assert await channel.unary_unary("/shoal.v1.Peer/Info")(b"\xff" * 30, timeout=SOON)
    assert (await host.connection.info()).peer.peer_id == PEER_ID


async def test_health_and_reflection_answer(host: Host):
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    async with grpc.aio.insecure_channel(host.address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        request = health_pb2.HealthCheckRequest(service="shoal.v1.Peer")
        assert (await check(request, timeout=SOON)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await host.server.set_serving(True)
        assert (await check(request, timeout=SOON)).status == health_pb2.HealthCheckResponse.SERVING
        reflect = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        answers = [answer async for answer in reflect(iter(asked), timeout=SOON)]
        names = {service.name for service in answers[0].list_services_response.service}
        assert {"shoal.v1.Peer", "grpc.health.v1.Health"} <= names
