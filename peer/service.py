"""The gRPC face of the Peer: Link, Info and Asset of ``shoal.v1``. Moves Frames; what they mean is the desk's affair.

A Link is one stream with one reading and one writing side. It begins with Hello in each direction, within a deadline;
when it ends, however it ends, its Seats are freed at once. What breaks a limit is a Fault of its Session; what cannot
be a Frame at all is a Fault of the whole Link, which then ends. Other Links notice nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from model.assets import Asset
from peer.desk import Desk
from peer.grammars import Grammars
from peer.meter import Meter, Side
from proto import frames
from proto import shoal_pb2 as pb
from proto.info import encode_info_reply
from proto.limits import Limits
from proto.messages import PROTOCOL, AssetRef, Entry, Hello, Info, Rejected
from proto.outbox import Outbox
from proto.rpc import Context
from proto.status import TO_STATUS
from swarm.errors import BadRequest, Fault, Internal, NoSeat, Refused, Timeout

ASSET_PART_BYTES = 256 << 10
LINK_RETRY_AFTER_S = 2.0

log = structlog.get_logger("peer.service")


class Service:
    """``info`` gives the Peer's present Info whenever it is asked."""

    def __init__(
        self,
        desk: Desk,
        hello: Hello,
        limits: Limits,
        info: Callable[[], Info],
        assets: Sequence[Asset],
        *,
        max_links: int = 256,
        hello_timeout_s: float = 10.0,
        outbox: Callable[[], Outbox] = Outbox,
        meter: Meter | None = None,
        grammars: Grammars | None = None,
    ):
        self._desk = desk
        self._hello = hello
        self._limits = limits
        self._info = info
        self._assets = {asset.sha256: asset.data for asset in assets}
        self._max_links = max_links
        self._hello_timeout_s = hello_timeout_s
        self._outbox = outbox
        self._meter = meter or Meter()
        self._grammars = Grammars(desk.receive, desk.seats.grammar_of) if grammars is None else grammars
        self._sides: dict[int, Side] = {}  # of the Links that have greeted

    def links(self, side: Side) -> int:
        """How many are up."""
        return sum(each is side for each in self._sides.values())

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoReply:
        return encode_info_reply(self._info())

    async def Asset(self, request: pb.AssetRequest, context: Context) -> AsyncIterator[pb.AssetPart]:
        data = self._assets.get(request.sha256)
        if data is None:
            missing = NoSeat(f"no asset {request.sha256[:64]!r} here; Info lists those that are")
            await context.abort(TO_STATUS[missing.code], str(missing))
        for start in range(0, len(data), ASSET_PART_BYTES):
            yield pb.AssetPart(data=data[start : start + ASSET_PART_BYTES])

    async def Link(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[pb.Frame]:
        outbox = self._outbox()
        if self._desk.num_links >= self._max_links:
            full = Refused(f"all {self._max_links} links of this peer are taken", LINK_RETRY_AFTER_S)
            self._meter.refused(full.code)
            yield frames.encode([Entry(b"", 0, full)])
            return
        link = self._desk.join(outbox)
        reader = asyncio.create_task(self._read(requests, link, outbox), name=f"link-{link}")
        # Freed here, not only below: a generator that gRPC drops between two Frames is closed at some later time.
        context.add_done_callback(lambda _: self._leave(link))  # pyright: ignore[reportArgumentType]
        try:
            async for frame in outbox.frames():
                yield frame
                self._meter.sent(self._sides.get(link, Side.CLIENT), frame.ByteSize())
        finally:
            self._leave(link)
            self._sides.pop(link, None)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    def _leave(self, link: int) -> None:
        self._grammars.leave(link)
        self._desk.leave(link)

    async def _read(self, requests: AsyncIterator[bytes], link: int, outbox: Outbox) -> None:
        """Everything that comes over one Link, until it ends; then the outbox is closed, which ends the writing."""
        try:
            data: bytes | None = b""
            items = await self._greet(requests, link, outbox)
            while data is not None:
                for item in items:
                    if item.session:
                        if not self._grammars.hold(link, item):
                            self._desk.receive(link, item)
                    else:
                        _of_the_link(item)
                self._meter.received(self._sides.get(link, Side.CLIENT), len(data))
                data = await anext(requests, None)
                items = [] if data is None else frames.decode(data, self._limits)
        except Fault as fault:
            log.info("link ends", link=link, why=str(fault))
            self._meter.refused(fault.code)
            _tell(outbox, fault)
        except Exception:
            log.exception("link failed", link=link)
            _tell(outbox, Internal("this peer failed while reading the link; use another"))
        finally:
            outbox.close()

    async def _greet(self, requests: AsyncIterator[bytes], link: int, outbox: Outbox) -> list[Entry | Rejected]:
        """Wait for the other side's Hello, then say ours. Returns what came with it. Raises BadRequest, Timeout."""
        try:
            async with asyncio.timeout(self._hello_timeout_s):
                data = await anext(requests, None)
        except TimeoutError:
            raise Timeout(f"no Hello came within {self._hello_timeout_s:g} s") from None
        if data is None:
            raise BadRequest("the link was closed before a Hello")
        items = frames.decode(data, self._limits)
        first = items[0] if items else None
        if isinstance(first, Rejected):
            raise first.fault
        if first is None or not isinstance(first.body, Hello):
            raise BadRequest("a link begins with a Hello")
        outbox.put(Entry(b"", 0, self._hello))
        if first.body.protocol != PROTOCOL:
            theirs = f"protocol {first.body.protocol} ({first.body.version})"
            raise BadRequest(f"you speak {theirs}, this peer speaks protocol {PROTOCOL}")
        self._sides[link] = Side.CLIENT if first.body.peer_id is None else Side.PEER
        self._desk.introduce(link, first.body.client_id or f"link {link}")
        return items[1:]


def asset_refs(assets: Sequence[Asset]) -> tuple[AssetRef, ...]:
    return tuple(AssetRef(asset.name, asset.sha256, len(asset.data)) for asset in assets)


def _of_the_link(item: Entry | Rejected) -> None:
    """An entry that belongs to no Session, after the Hellos: nothing that a Link survives."""
    if isinstance(item, Rejected):
        raise item.fault
    if isinstance(item.body, Fault):
        raise BadRequest(f"the other side gave the link up: {item.body}")
    raise BadRequest("a second Hello")


def _tell(outbox: Outbox, fault: Fault) -> None:
    with contextlib.suppress(Fault):
        outbox.put(Entry(b"", 0, fault))
