"""Proxy: a TCP proxy that puts a wire between two ends: latency, jitter, bandwidth, or a cut. Knows no gRPC.

No kernel traffic shaping is at hand, so what a wire does is done here, in user space. Whatever is read is stamped with
the moment at which it is due at the other end, and written then: order is kept, and latency costs no bandwidth. A
``Schedule`` decides the moment from its seed and the clock reading alone, so that every run draws the same jitter.

What is not modelled: loss (TCP would hide it as latency) and the growth of TCP's window. A dial takes one round trip;
loopback answers it at once, so what follows it waits here.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from swarm.address import Address

READ_BYTES = 64 << 10
BURST_BYTES = 16 << 10  # that a wire of limited bandwidth takes at once after a rest
BUFFER_BYTES = 8 << 20  # under way at a time, of one connection and direction; then its sender has to wait
BACKLOG = 128
WAKE_S = 0.0005
_RESET = None  # in place of data: the sender has gone; b"": it has closed
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Mode(StrEnum):
    PASS = "pass"
    BLACKHOLE = "blackhole"  # dials are taken, bytes are swallowed, nobody hears anything
    REFUSE = "refuse"  # nobody listens; connections that are there go on


@dataclass(frozen=True, slots=True)
class Wire:
    """One direction. Jitter is added to the latency, evenly spread from none to all of it."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = math.inf

    def __post_init__(self) -> None:
        if min(self.latency_s, self.jitter_s) < 0 or not self.bytes_per_s > 0:
            raise ValueError(f"a wire has a latency and a jitter of at least 0 and some bandwidth, not {self}")


class Schedule:
    """When what enters a wire comes out of it. The bandwidth is a token bucket of BURST_BYTES."""

    def __init__(self, wire: Wire, seed: str):
        self._wire = wire
        self._random = random.Random(seed)
        self._filled_at = -math.inf  # when the bucket would have been empty, had it never been full
        self._last = -math.inf

    def due(self, now: float, num_bytes: int) -> float:
        """Of ``num_bytes`` that entered at ``now``; never before what entered earlier."""
        wire = self._wire
        rest = max(self._filled_at, now - BURST_BYTES / wire.bytes_per_s)
        self._filled_at = rest + num_bytes / wire.bytes_per_s
        out = max(now, self._filled_at) + wire.latency_s + self._random.random() * wire.jitter_s
        self._last = max(self._last, out)
        return self._last


class _UnderWay:
    """What is on the wire: (due, data), bounded in bytes. One reader, one writer."""

    def __init__(self, most_bytes: int):
        self._most, self._held = most_bytes, 0
        self._items: deque[tuple[float, bytes | None]] = deque()
        self._room, self._some = asyncio.Event(), asyncio.Event()

    async def room(self) -> None:
        while self._held >= self._most:
            self._room.clear()
            await self._room.wait()

    def put(self, due: float, data: bytes | None) -> None:
        self._items.append((due, data))
        self._held += len(data or b"")
        self._some.set()

    async def first(self) -> tuple[float, bytes | None]:
        while not self._items:
            self._some.clear()
            await self._some.wait()
        return self._items[0]

    def drop_first(self) -> None:
        _, data = self._items.popleft()
        self._held -= len(data or b"")
        self._room.set()


class _Reset(ConnectionResetError):
    """One end has reset the connection, and the other end is to hear it now."""


class Proxy:
    """Takes connections at ``address`` and leads each to ``to``. A context manager that leaves no task behind.

    ``up`` is the wire of whoever dials, ``down`` the way back.
    """

    def __init__(
        self, to: str, *, up: Wire | None = None, down: Wire | None = None, listen: str = "127.0.0.1:0",
        seed: int = 0, buffer_bytes: int = BUFFER_BYTES,
    ):  # fmt: skip
        self._to, self._listen = Address.parse(to), Address.parse(listen)
        self._up, self._down = up or Wire(), down or Wire()
        self._seed, self._buffer_bytes = seed, buffer_bytes
        self._mode = Mode.PASS
        self._dials = 0
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return str(self._listen)

    @property
    def num_connections(self) -> int:
        return len(self._connections)

    async def __aenter__(self) -> Proxy:
        self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shut()
        await self.reset()

    async def set(self, mode: Mode) -> None:
        """From now on. What went into a black hole is lost, so its connections are reset when it closes."""
        before, self._mode = self._mode, mode
        if before is Mode.BLACKHOLE and mode is not before:
            await self.reset()
        if mode is Mode.REFUSE:
            await self._shut()
        elif self._accepting is None:
            self._open()

    async def reset(self) -> None:
        """RST to both ends of every connection."""
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self) -> None:
        listener = _tcp_socket(self._listen)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._listen.host, self._listen.port))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        self._listen = Address(self._listen.host, listener.getsockname()[1])
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))

    async def _shut(self) -> None:
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(self._connection(near, self._dials))
            self._dials += 1
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _connection(self, near: socket.socket, number: int) -> None:
        far: socket.socket | None = None
        abort = True
        try:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.sleep(self._up.latency_s + self._down.latency_s)
            if self._swallows():
                await _swallow(near)
            far = _tcp_socket(self._to)
            await asyncio.get_running_loop().sock_connect(far, (self._to.host, self._to.port))
            async with asyncio.TaskGroup() as both:
                for name, source, target, wire in (("up", near, far, self._up), ("down", far, near, self._down)):
                    schedule = Schedule(wire, f"{self._seed}/{number}/{name}")
                    both.create_task(_pump(source, target, schedule, _UnderWay(self._buffer_bytes), self._swallows))
            abort = False
        except* OSError:
            pass  # refused at the far end, or reset by one of the two: both ends hear a reset
        finally:
            for end in (near, far):
                if end is not None:
                    _close(end, abort)

    def _swallows(self) -> bool:
        return self._mode is Mode.BLACKHOLE


async def _pump(
    source: socket.socket, target: socket.socket, schedule: Schedule, wire: _UnderWay, swallows: Callable[[], bool]
) -> None:
    """One direction of one connection, until its end has come out of the wire. Raises _Reset where that was a reset."""
    reading = asyncio.create_task(_read(source, schedule, wire, swallows))
    try:
        await _write(target, wire, swallows)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(source: socket.socket, schedule: Schedule, wire: _UnderWay, swallows: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    data: bytes | None = None
    while data is None or data:
        await wire.room()
        try:
            data = await loop.sock_recv(source, READ_BYTES)
        except OSError:
            wire.put(schedule.due(loop.time(), 0), _RESET)
            return
        if not swallows():
            wire.put(schedule.due(loop.time(), len(data)), data)


async def _write(target: socket.socket, wire: _UnderWay, swallows: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    deaf = False  # the far end takes no more; what it has to say of that comes the other way
    while True:
        due, data = await wire.first()
        await _until(due)
        if not swallows():
            if data is _RESET:
                raise _Reset
            if not data:
                with suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                return
            try:
                if not deaf:
                    await loop.sock_sendall(target, data)
            except OSError:
                deaf = True
        wire.drop_first()


async def _until(due: float) -> None:
    """A sleeping process is woken some 0.3 ms late: so a little earlier, and the rest awake."""
    loop = asyncio.get_running_loop()
    early = due - WAKE_S - loop.time()
    if early > 0:
        await asyncio.sleep(early)
    while loop.time() < due:  # noqa: ASYNC110 - nobody tells; and other wires go on meanwhile
        await asyncio.sleep(0)


async def _swallow(near: socket.socket) -> None:
    """Until whoever dialled has had enough. Raises _Reset then, or is cancelled."""
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(near, READ_BYTES):
        pass
    raise _Reset


def _tcp_socket(address: Address) -> socket.socket:
    end = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return end


def _close(end: socket.socket, abort: bool) -> None:
    if abort:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    end.close()


def run_precisely(main: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run`` on a loop whose timers are exact to some 0.1 ms: epoll's are rounded up to whole milliseconds,
    a fifth of a wire of 5 ms; select's are not, and it takes up to 1,024 file handles.
    """
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main)
