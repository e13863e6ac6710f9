"""Link: one long-lived stream to one peer, and the Conversations of many Sessions on it. The dialling side.

A Link says Hello, waits for the other's, then carries entries both ways until it breaks or is closed. It holds no
opinion on what the entries mean: that is the Session's (client) and the Seat's (peer). ``connection`` makes Links.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque

import grpc.aio

from proto import frames
from proto import shoal_pb2 as pb
from proto.frames import Limits
from proto.messages import Body, Entry, Hello, Rejected
from proto.outbox import Outbox, entry_bytes
from proto.status import describe
from swarm.errors import BadRequest, DeadLink, Fault, Internal, Overflow, Timeout

MAX_INBOX_ENTRIES = 1024  # unread entries that a Conversation may have
MAX_INBOX_BYTES = 256 << 20
FLUSH_S = 0.5  # how long close() waits for the peer to take what is still queued and to end its side


class Conversation:
    """One Session's part of a Link. Made by ``Link.conversation``; for one task at a time."""

    def __init__(self, link: Link, session: bytes):
        self._link = link
        self.session = session
        self._inbox: deque[tuple[Entry, int]] = deque()
        self._inbox_bytes = 0
        self._epoch = 0  # the highest one sent
        self._failure: Fault | None = None
        self._ready = asyncio.Event()

    def send(self, epoch: int, body: Body) -> None:
        """Queues an entry; never waits. Raises DeadLink when the Link broke, Overflow when the peer does not read."""
        if not self._link.alive:
            raise DeadLink(f"{self._link.address}: {self._link.closed_reason}")
        self._link.outbox.put(Entry(self.session, epoch, body))
        self._epoch = max(self._epoch, epoch)

    async def receive(self, timeout_s: float) -> Entry:
        """The next entry for this Session, of the highest epoch sent; what an older epoch still answers is dropped.

        Raises Timeout when none came in time, the Fault that the peer sent for this Session or for the whole Link,
        DeadLink when the Link broke, Overflow when too much was left unread. A cancelled receive loses nothing.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if self._inbox:
                        entry, size = self._inbox.popleft()
                        self._inbox_bytes -= size
                        if entry.epoch < self._epoch:
                            continue
                        if isinstance(entry.body, Fault):
                            raise entry.body
                        return entry
                    if self._failure is not None:
                        raise copy.copy(self._failure)
                    self._ready.clear()
                    await self._ready.wait()
        except TimeoutError:
            raise Timeout(f"{self._link.address} did not answer within {timeout_s:g} s") from None

    def close(self) -> None:
        """Forgets the Session here; what comes for it later is dropped. Tells the peer nothing: send Close for that."""
        self._link.forget(self)
        self.fail(DeadLink(f"{self._link.address}: the conversation is closed"))

    def deliver(self, entry: Entry) -> None:
        """Called by the Link: an entry came."""
        if self._failure is not None:
            return
        size = entry_bytes(entry)
        if len(self._inbox) >= MAX_INBOX_ENTRIES or self._inbox_bytes + size > MAX_INBOX_BYTES:
            self._inbox.clear()
            self._inbox_bytes = 0
            bound = f"{MAX_INBOX_ENTRIES} entries, {MAX_INBOX_BYTES >> 20} MiB"
            self.fail(Overflow(f"{self._link.address} sent more than the session reads (bound: {bound})"))
            return
        self._inbox.append((entry, size))
        self._inbox_bytes += size
        self._ready.set()

    def fail(self, fault: Fault) -> None:
        """Called by the Link: nothing more will come. The first reason stays."""
        self._failure = self._failure or fault
        self._ready.set()


class Link:
    """A live stream. Everything here runs on one event loop; state changes first, I/O follows in two tasks."""

    def __init__(self, call: grpc.aio.StreamStreamCall[pb.Frame, bytes], address: str, limits: Limits):
        self.address = address
        self.outbox = Outbox()
        self.peer_id: str | None = None
        self._call, self._limits = call, limits
        self._conversations: dict[bytes, Conversation] = {}
        self._failure: Fault | None = None
        self._greeting: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def alive(self) -> bool:
        return self._failure is None

    @property
    def closed_reason(self) -> str | None:
        """Why the Link is no longer alive, in one line; None while it is."""
        return None if self._failure is None else str(self._failure)

    def conversation(self, session: bytes) -> Conversation:
        """Registers a Session. One Conversation per Session and Link at a time."""
        assert session not in self._conversations, "the session already has a conversation on this link"
        conversation = Conversation(self, session)
        if self._failure is not None:
            conversation.fail(self._failure)
        else:
            self._conversations[session] = conversation
        return conversation

    def forget(self, conversation: Conversation) -> None:
        """Called by a Conversation that closes."""
        if self._conversations.get(conversation.session) is conversation:
            del self._conversations[conversation.session]

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
                conversation = self._conversations.get(item.session)
                if conversation is None:
                    continue  # closed here meanwhile
                if isinstance(item, Rejected):
                    conversation.fail(BadRequest(f"{self.address} broke the protocol: {item.fault}"))
                else:
                    conversation.deliver(item)
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
        for conversation in self._conversations.values():
            conversation.fail(reason)
        self._conversations.clear()
