"""Link: one long-lived stream to one peer, with many Sessions on it. The dialling side, of clients and peers alike.

A Link says Hello, waits for the other's, then carries entries both ways until it breaks or is closed. It holds no
opinion on what the entries mean: that is the Session's (client) and the Seat's (peer). ``connection`` makes Links.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Protocol

import grpc.aio

from proto import frames
from proto import shoal_pb2 as pb
from proto.limits import Limits
from proto.messages import Entry, Hello, Rejected
from proto.outbox import Outbox
from proto.status import describe
from swarm.errors import BadRequest, DeadLink, Fault, Internal, Timeout

FLUSH_S = 0.5  # how long close() waits for the peer to take what is still queued and to end its side

Traffic = Callable[[int, int], None]  # bytes sent, bytes received


class Ear(Protocol):
    """Who listens to one Session on a Link. Called on the event loop, and must not fail."""

    def hear(self, entry: Entry) -> None:
        """An entry came for the Session."""
        ...

    def fail(self, fault: Fault) -> None:
        """Nothing more will come: the Link broke, or the other side broke the protocol for this Session."""
        ...


class Link:
    """A live stream. Everything here runs on one event loop; state changes first, I/O follows in two tasks."""

    def __init__(
        self, call: grpc.aio.StreamStreamCall[pb.Frame, bytes], address: str, limits: Limits,
        traffic: Traffic | None = None,
    ):  # fmt: skip
        self.address = address
        self.outbox = Outbox()
        self.peer_id: str | None = None
        self._call, self._limits, self._traffic = call, limits, traffic
        self._ears: dict[bytes, Ear] = {}
        self._failure: Fault | None = None
        self._greeting: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def alive(self) -> bool:
        return self._failure is None

    @property
    def listeners(self) -> int:
        """Sessions that somebody listens to."""
        return len(self._ears)

    def listener(self, session: bytes) -> Ear | None:
        """Who listens to ``session``."""
        return self._ears.get(session)

    def attach(self, session: bytes, ear: Ear) -> None:
        """From now on ``ear`` hears what comes for ``session``; at once, that the Link is broken, if it is. One at a
        time.
        """
        assert self._ears.get(session, ear) is ear, "somebody else listens to this session on this link"
        if self._failure is not None:
            ear.fail(copy.copy(self._failure))
        else:
            self._ears[session] = ear

    def detach(self, session: bytes) -> None:
        """What comes for ``session`` is dropped from now on. The peer is told nothing: send Close for that."""
        self._ears.pop(session, None)

    def send(self, entry: Entry) -> None:
        """Queues an entry; never waits. Raises DeadLink when the Link broke, Overflow when the peer does not read."""
        if self._failure is not None:
            raise DeadLink(f"{self.address}: {self._failure}")
        self.outbox.put(entry)

    async def greet(self, hello: Hello, timeout_s: float) -> None:
        """Starts the stream and exchanges Hellos. Raises a Fault, and leaves the Link closed, when that fails."""
        self.outbox.put(Entry(b"", 0, hello))
        self._tasks = (asyncio.create_task(self._write()), asyncio.create_task(self._read()))
        try:
            async with asyncio.timeout(timeout_s):
                theirs = await self._greeting
            if theirs.protocol != hello.protocol:
                raise BadRequest(
                    f"{self.address} speaks protocol {theirs.protocol} (version {theirs.version}), "
                    f"this side speaks {hello.protocol} (version {hello.version}); the older one needs an update"
                )
            if self._failure is not None:
                raise copy.copy(self._failure)
            self.peer_id = theirs.peer_id
        except TimeoutError:
            await self.close()
            raise Timeout(f"{self.address} did not greet within {timeout_s:g} s") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Writes what is queued and ends the stream; briefly. The peer frees the Seats that were opened over it."""
        greeted = self.alive and self._greeting.done() and not self._greeting.cancelled()
        self._break(DeadLink(f"{self.address}: the link was closed on this side"))
        try:
            if greeted:
                await asyncio.wait(self._tasks, timeout=FLUSH_S)
        finally:
            self._call.cancel()
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self) -> None:
        try:
            async for frame in self.outbox.frames():
                await self._call.write(frame)
                if self._traffic is not None:
                    self._traffic(frame.ByteSize(), 0)
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the stream has ended; _read says why
        except (TypeError, ValueError) as error:
            self._break(Internal(f"{self.address}: an entry cannot be sent, for it fits no message: {error}"))
            self._call.cancel()

    async def _read(self) -> None:
        reason: Fault = Internal(f"{self.address}: the link failed on this side")
        try:
            while isinstance(frame := await self._call.read(), bytes):
                if self._traffic is not None:
                    self._traffic(0, len(frame))
                self._receive(frame)
            reason = DeadLink(f"{self.address}: the peer closed the link")
        except grpc.aio.AioRpcError as error:
            reason = DeadLink(f"{self.address}: {describe(error)}")
        except BadRequest as fault:
            reason = BadRequest(f"{self.address} broke the protocol: {fault}")
        finally:
            self._break(reason)
            self._call.cancel()

    def _receive(self, frame: bytes) -> None:
        for item in frames.decode(frame, self._limits):
            body = item.fault if isinstance(item, Rejected) else item.body
            if item.session:
                ear = self._ears.get(item.session)
                if ear is None:
                    continue  # closed here meanwhile
                if isinstance(item, Rejected):
                    self.detach(item.session)
                    ear.fail(BadRequest(f"{self.address} broke the protocol: {item.fault}"))
                else:
                    ear.hear(item)
            elif isinstance(item, Rejected):
                raise item.fault
            elif isinstance(body, Fault):
                self._break(body)
            elif not self._greeting.done() and isinstance(body, Hello):
                self._greeting.set_result(body)
            else:
                raise BadRequest("a second Hello")

    def _break(self, reason: Fault) -> None:
        """The Link is over: everybody who waits on it hears why. The first reason stays."""
        if self._failure is not None:
            return
        self._failure = reason
        self.outbox.close()
        if not self._greeting.done():
            self._greeting.set_exception(reason)
            self._greeting.exception()  # it may be that nobody waits any more
        ears, self._ears = list(self._ears.values()), {}
        for ear in ears:
            ear.fail(copy.copy(reason))
