"""Info and Assets from a real gRPC server on loopback; strangers of every kind on either side."""

from __future__ import annotations

import asyncio
import hashlib
import socket

import grpc.aio
import pytest

from proto import frames
from proto import shoal_pb2 as pb
from proto.connection import Connection
from proto.info import decode_info_reply
from proto.limits import Limits
from proto.messages import AssetRef, Entry
from proto.options import CHANNEL_OPTIONS
from swarm.errors import BadRequest, DeadLink, Fault, Timeout
from tests.support.echo import HELLO, A, EchoPeer, Talk, info, serving, step

PATIENCE_S = 20.0
FILE = bytes(range(256)) * 10
REF = AssetRef("tokenizer.json", hashlib.sha256(FILE).hexdigest(), len(FILE))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def end_of(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> grpc.StatusCode:
    """How a stream ended, after everything that came before was read."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_info_comes_as_a_value():
    async with serving(EchoPeer(assets={REF: FILE})) as (address, _):
        connection = Connection(address)
        assert await connection.info(PATIENCE_S) == info((REF,))
        await connection.close()


async def test_an_asset_comes_whole():
    async with serving(EchoPeer(assets={REF: FILE})) as (address, _):
        connection = Connection(address)
        assert await connection.asset(REF, PATIENCE_S) == FILE
        await connection.close()


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (FILE + b"!", "longer than its 2560 bytes"),
        (FILE[:-1], "came with 2559 bytes of 2560"),
        (FILE[:-1] + b"!", "not with its digest"),
    ],
)
async def test_an_asset_that_is_not_its_digest_is_refused(sent: bytes, complaint: str):
    async with serving(EchoPeer(assets={REF: sent})) as (address, _):
        connection = Connection(address)
        with pytest.raises(BadRequest, match=f"{address}: asset tokenizer.json .*{complaint}"):
            await connection.asset(REF, PATIENCE_S)
        await connection.close()


async def test_an_asset_too_large_to_want_is_not_even_asked_for():
    connection = Connection("127.0.0.1:1")
    with pytest.raises(BadRequest, match="at most"):
        await connection.asset(AssetRef("huge.json", "0" * 64, 1 << 31), PATIENCE_S)
    await connection.close()


async def test_nobody_at_the_address_is_a_dead_link_in_one_line():
    address = f"127.0.0.1:{free_port()}"
    connection = Connection(address)
    for call in (
        connection.info(PATIENCE_S),
        connection.asset(REF, PATIENCE_S),
        connection.link(HELLO, Limits(), PATIENCE_S),
    ):
        with pytest.raises(DeadLink, match=f"^{address}: connection refused$"):
            await call
    await connection.close()


async def test_a_restarted_peer_is_reached_over_the_same_connection():
    async with serving(EchoPeer()) as (address, _):
        connection = Connection(address)
        await connection.info(PATIENCE_S)
    with pytest.raises(DeadLink):
        await connection.info(PATIENCE_S)
    async with serving(EchoPeer(), port=int(address.rpartition(":")[2])):
        again = Connection(address)
        assert await again.info(PATIENCE_S) == info()
        await again.close()
    await connection.close()


@pytest.mark.parametrize("address", ["", "localhost", "unix:/etc/passwd", "a b:1", "host:port", "dns:///x:1", ":4000"])
async def test_what_is_no_address_is_refused_before_anything_is_dialled(address: str):
    with pytest.raises(BadRequest, match="is not an address; write host:port"):
        Connection(address)


async def test_a_host_named_like_a_scheme_is_still_a_host():
    connection = Connection("unix:1")
    with pytest.raises(Fault, match="unix:1: the host name is not known"):
        await connection.info(PATIENCE_S)
    await connection.close()


async def test_a_peer_that_does_not_answer_is_a_timeout():
    class Mute(EchoPeer):
        async def Info(self, request: pb.InfoRequest, context: object) -> pb.InfoReply:
            return await asyncio.get_running_loop().create_future()

    async with serving(Mute()) as (address, _):
        connection = Connection(address)
        with pytest.raises(Timeout, match=f"{address}: no answer within the deadline"):
            await connection.info(0.05)
        await connection.close()


async def test_an_info_that_cannot_be_is_refused():
    class Liar(EchoPeer):
        async def Info(self, request: pb.InfoRequest, context: object) -> pb.InfoReply:
            return pb.InfoReply(hidden_size=64)

    async with serving(Liar()) as (address, _):
        connection = Connection(address)
        with pytest.raises(BadRequest, match=f"{address}: info: vocab_size is 0"):
            await connection.info(PATIENCE_S)
        await connection.close()


async def test_bytes_that_are_no_info_are_refused():
    async def garbage(request: bytes, context: object) -> bytes:
        return b"\xff\xff\xff"

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(garbage)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shoal.v1.Peer", {"Info": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = Connection(f"127.0.0.1:{port}")
    with pytest.raises(BadRequest, match="not an Info"):
        await connection.info(PATIENCE_S)
    await connection.close()
    await server.stop(None)


async def test_a_grpc_server_of_something_else_is_named_so():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = Connection(f"127.0.0.1:{port}")
    with pytest.raises(BadRequest, match="it is a gRPC server, but not a Shoal peer"):
        await connection.info(PATIENCE_S)
    with pytest.raises(Fault, match="it is a gRPC server, but not a Shoal peer"):
        await connection.link(HELLO, Limits(), PATIENCE_S)
    await connection.close()
    await server.stop(None)


async def test_a_web_server_at_the_address_is_no_peer():
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(web, "127.0.0.1", 0)
    connection = Connection(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(DeadLink, match="something other than a Shoal peer"):
        await connection.info(PATIENCE_S)
    await connection.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 4096,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096,  # the right first words, then nonsense
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 512,  # a TLS hello
    ],
)
async def test_garbage_on_the_port_disturbs_nobody(garbage: bytes):
    async with serving(EchoPeer()) as (address, _):
        connection = Connection(address)
        talk = Talk(await connection.link(HELLO, Limits(), PATIENCE_S), A)
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(garbage)
        await writer.drain()
        writer.write_eof()
        try:
            await asyncio.wait_for(reader.read(), PATIENCE_S)  # the server hangs up on it
        except ConnectionError:
            pass
        writer.close()
        talk.send(0, step(0))
        assert (await talk.receive(PATIENCE_S)).body == step(0)
        await connection.close()


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"\xff\xff\xff\xff", "not a frame"),
        (b"\x0a\x00" * 5000, "5000 entries, at most 4096"),
        (b"\x0a\x00" * 50000, "more than 4096 entries"),
        (b"\x0a\x05hello", "not a frame: protobuf cannot read it"),
    ],
)
async def test_a_message_that_is_no_frame_ends_its_own_link_with_a_typed_fault(message: bytes, complaint: str):
    async with serving(EchoPeer()) as (address, _):
        connection = Connection(address)
        talk = Talk(await connection.link(HELLO, Limits(), PATIENCE_S), A)
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            call = channel.stream_stream("/shoal.v1.Peer/Link")()
            await call.write(message)
            heard = [item for _ in range(2) for item in frames.decode(await call.read(), Limits())]
            assert heard[0].body.peer_id  # type: ignore[union-attr]
            assert isinstance(heard[1], Entry) and heard[1].session == b""
            assert isinstance(heard[1].body, BadRequest) and complaint in str(heard[1].body)
            assert await call.read() is grpc.aio.EOF
        talk.send(0, step(0))
        assert (await talk.receive(PATIENCE_S)).body == step(0)
        await connection.close()


async def test_an_asset_request_that_cannot_be_read_asks_for_nothing_that_exists():
    async with serving(EchoPeer(assets={REF: FILE})) as (address, _), grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_stream("/shoal.v1.Peer/Asset")(b"\xff\xff")
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert decode_info_reply(await channel.unary_unary("/shoal.v1.Peer/Info")(b"\xff")) == info((REF,))


async def test_bytes_that_are_no_part_of_an_asset_are_refused():
    async def garbage(request: bytes, context: object):
        yield b"\xff\xff\xff"

    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(garbage)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shoal.v1.Peer", {"Asset": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = Connection(f"127.0.0.1:{port}")
    with pytest.raises(BadRequest, match="parts that protobuf cannot read"):
        await connection.asset(REF, PATIENCE_S)
    await connection.close()
    await server.stop(None)


async def test_a_message_beyond_the_size_limit_ends_its_own_link_only():
    async with serving(EchoPeer()) as (address, _):
        connection = Connection(address)
        talk = Talk(await connection.link(HELLO, Limits(), PATIENCE_S), A)
        unbounded = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(address, options=unbounded) as channel:
            call = channel.stream_stream("/shoal.v1.Peer/Link")()
            await call.write(bytes((64 << 20) + 1))
            assert await end_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
        talk.send(0, step(0))
        assert (await talk.receive(PATIENCE_S)).body == step(0)
        await connection.close()
