"""A small real peer on a free port: says Hello, answers every entry as it is told to. Entries to say to it, and an ear
to hear its answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import grpc.aio

from proto import frames
from proto import shoal_pb2 as pb
from proto.info import encode_info_reply
from proto.limits import Limits
from proto.link import Link
from proto.messages import AssetRef, Body, Chunk, Done, Entry, Hello, Info, Kept, Open, Opened, Want
from proto.options import SERVER_OPTIONS
from proto.outbox import Outbox
from proto.rpc import PeerService, add_peer_service
from swarm.errors import Fault
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.span import Span

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))  # sessions
PEER_ID = "0123456789abcdef" * 2
MODEL = ModelRef("sample", "f" * 32, 24)
HELLO = Hello("0.0-test")

Answer = Callable[[Entry], Iterable[Entry]]


def peer_info(address: str = "127.0.0.1:4000") -> PeerInfo:
    return PeerInfo(
        PEER_ID, 7, MODEL, Span(0, 24), address, "c8", PeerState.READY, "0.0-test", 4096, 4096, 0, 0, 0.001, 2e9
    )


def info(assets: tuple[AssetRef, ...] = ()) -> Info:
    return Info(peer_info(), assets, hidden_size=64, vocab_size=512, max_positions=1024, eos_token_ids=(0, 2))


def opening(max_tokens: int = 64) -> Open:
    return Open(MODEL.fingerprint, "c8", Span(0, 24), max_tokens, prompt_tokens=4)


def step(number: int, token_id: int = 5) -> Chunk:
    return Chunk(number, number, 1, Want.TOKEN, token_ids=(token_id,))


def echo(entry: Entry) -> Iterable[Entry]:
    """Open → Opened; everything else comes back as it is."""
    if isinstance(entry.body, Open):
        return [Entry(entry.session, entry.epoch, Opened(0, 30.0, 256))]
    return [entry]


class Talk:
    """One Session on a Link: its ear, with what it heard in order."""

    def __init__(self, link: Link, session: bytes):
        self._link, self._session = link, session
        self._heard: asyncio.Queue[Entry | Fault] = asyncio.Queue()
        link.attach(session, self)

    def hear(self, entry: Entry) -> None:
        self._heard.put_nowait(entry)

    def fail(self, fault: Fault) -> None:
        self._heard.put_nowait(fault)

    def send(self, epoch: int, body: Body) -> None:
        self._link.send(Entry(self._session, epoch, body))

    def close(self) -> None:
        """Stop listening."""
        self._link.detach(self._session)

    async def receive(self, timeout_s: float = 20.0) -> Entry:
        """What was heard next; a Fault is raised, whether it is the Session's or the Link's."""
        async with asyncio.timeout(timeout_s):
            heard = await self._heard.get()
        if isinstance(heard, Fault):
            raise heard
        if isinstance(heard.body, Fault):
            raise heard.body
        return heard

    async def next_body(self) -> Body:
        return (await self.receive()).body

    async def outcome(self) -> Body:
        """The next that is more than word of what is computed."""
        while isinstance(body := await self.next_body(), Done | Kept):
            pass
        return body


class EchoPeer:
    """``answer`` says what an entry is answered with; ``ended`` gets an item for every Link that is over."""

    def __init__(
        self, answer: Answer = echo, *, hello: Hello | None = None, assets: dict[AssetRef, bytes] | None = None
    ):
        self._answer = answer
        self._hello = hello or Hello("0.0-test", PEER_ID)
        self._assets = assets or {}
        self.ended: asyncio.Queue[None] = asyncio.Queue()

    async def Info(self, request: pb.InfoRequest, context: object) -> pb.InfoReply:
        return encode_info_reply(info(tuple(self._assets)))

    async def Asset(self, request: pb.AssetRequest, context: object) -> AsyncIterator[pb.AssetPart]:
        for ref, data in self._assets.items():
            if ref.sha256 == request.sha256:
                for start in range(0, len(data), 1000):
                    yield pb.AssetPart(data=data[start : start + 1000])

    async def Link(self, requests: AsyncIterator[bytes], context: object) -> AsyncIterator[pb.Frame]:
        outbox = Outbox()
        outbox.put(Entry(b"", 0, self._hello))
        reader = asyncio.create_task(self._read(requests, outbox))
        try:
            async for frame in outbox.frames():
                yield frame
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
            self.ended.put_nowait(None)

    async def _read(self, requests: AsyncIterator[bytes], outbox: Outbox) -> None:
        try:
            async for data in requests:
                for item in frames.decode(data, Limits()):
                    if isinstance(item, Entry) and not isinstance(item.body, Hello):
                        for reply in self._answer(item):
                            outbox.put(reply)
        except Fault as fault:
            outbox.put(Entry(b"", 0, fault))
        finally:
            outbox.close()


@asynccontextmanager
async def serving(
    service: PeerService, port: int = 0, options: Sequence[tuple[str, int]] = SERVER_OPTIONS
) -> AsyncIterator[tuple[str, grpc.aio.Server]]:
    """Runs ``service`` on loopback; gives its address and the server, for tests that stop it."""
    server = grpc.aio.server(options=options)
    add_peer_service(service, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}", server
    finally:
        await server.stop(None)


class Cable:
    """A TCP connection through this process that a test can cut or freeze, as when a machine dies or hangs."""

    def __init__(self, address: str):
        host, _, port = address.rpartition(":")
        self._to = (host, int(port))
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._flowing = True
        self.address = ""

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        await asyncio.gather(*self._pumps)
        await self._server.wait_closed()

    def cut(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """From now on every byte is swallowed, and nobody is told."""
        self._flowing = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._to)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._pumps.add(asyncio.create_task(self._pump(source, sink)))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if self._flowing:
                    writer.write(data)
                    await writer.drain()
