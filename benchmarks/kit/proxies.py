"""Proxies in a process of their own: the loop that is measured must not delay the packets of the wire.

``Proxies`` is the near end and speaks JSON lines with ``python -m benchmarks.kit.proxies``. A question to it blocks the
caller for some tenths of a millisecond.

A peer behind a wire announces its Proxy's address (``--announce``), so that whatever others send it passes the wire.
Where a client is further away than other peers, the client goes through a second Proxy of its own: it dials, instead
of what was announced, what ``ClientConfig.addresses`` has for it.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, cast

from benchmarks.kit.figures import percentile
from benchmarks.kit.proxy import Mode, Proxy, Wire, run_precisely
from benchmarks.kit.workers import Worker
from swarm.address import Address

_PORTS = range(20000, 32000)  # below those that the kernel gives to whoever dials


class Proxies:
    """A context manager that leaves no process behind. Addresses are host:port."""

    def __init__(self) -> None:
        self._worker = Worker("benchmarks.kit.proxies", timeout_s=10.0)

    def __enter__(self) -> Proxies:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.__exit__()

    def open(self, to: str, wire: Wire, back: Wire | None = None, seed: int = 0) -> str:
        """A new Proxy's address. ``back``: the way back, where that is another wire."""
        return self._worker.ask("open", to=to, up=_numbers(wire), down=_numbers(back or wire), seed=seed)

    def set(self, address: str, mode: Mode) -> None:
        self._worker.ask("set", address=address, mode=mode)

    def reset(self, address: str) -> None:
        self._worker.ask("reset", address=address)


@dataclass
class Plugs:
    """Where the peers of a swarm listen, and through which Proxies others reach them."""

    proxies: Proxies
    seed: int = 0
    for_client: dict[str, str] = field(default_factory=dict)  # instead of what was announced
    announced: list[str] = field(default_factory=list)

    def plug(self, among_peers: Wire, to_client: Wire) -> Sequence[str]:
        """The options of one more peer."""
        here = f"127.0.0.1:{free_port()}"
        number = self.seed + 2 * len(self.announced)
        near = self.proxies.open(here, among_peers, seed=number)
        self.for_client[near] = self.proxies.open(here, to_client, seed=number + 1)
        self.announced.append(near)
        return "--listen", here, "--announce", near


async def excess_s(proxies: Proxies, latency_s: float, rounds: int = 100) -> float:
    """What a Proxy adds to a way of ``latency_s``: half of what a round trip takes beyond one without it and both ways.

    Its process has to be woken twice and its Python takes time, some 0.2 ms on an idle machine. Of many round trips the
    fastest tenth counts: whoever shortens a wire by this takes out what is always there, and no noise.
    """
    loop = asyncio.get_running_loop()
    async with await loop.create_server(_Echo, "127.0.0.1", 0) as server:
        direct = str(Address(*server.sockets[0].getsockname()[:2]))
        bare = await _round_trip_s(direct, rounds)
        through = await _round_trip_s(proxies.open(direct, Wire(latency_s)), rounds)
    return max((through - bare) / 2 - latency_s, 0.0)


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody listens on. A peer behind a Proxy cannot choose its own: the Proxy has to know it first."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port of {_PORTS.start} to {_PORTS.stop} is free at {host}")


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def _round_trip_s(address: str, rounds: int, num_bytes: int = 512) -> float:
    """That of the fastest tenth."""
    end = Address.parse(address)
    reader, writer = await asyncio.open_connection(end.host, end.port)
    took: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        writer.write(bytes(num_bytes))
        await reader.readexactly(num_bytes)
        took.append(time.perf_counter() - begun)
    writer.close()
    await writer.wait_closed()
    return percentile(took, 10)


def _numbers(wire: Wire) -> Mapping[str, float]:
    """JSON has no infinity: what is not limited is left out."""
    return {name: value for name in Wire.__slots__ if math.isfinite(value := getattr(wire, name))}


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    proxies: dict[str, Proxy] = {}
    async with AsyncExitStack() as stack:
        while line := await lines.readline():
            function, arguments = json.loads(line)
            print(json.dumps(await _do(proxies, stack, function, **arguments)), flush=True)


async def _do(proxies: dict[str, Proxy], stack: AsyncExitStack, function: str, **arguments: Any) -> str | None:
    if function == "open":
        up, down = Wire(**arguments.pop("up")), Wire(**arguments.pop("down"))
        proxy = await stack.enter_async_context(Proxy(**arguments, up=up, down=down))
        proxies[proxy.address] = proxy
        return proxy.address
    proxy = proxies[arguments["address"]]
    await (proxy.set(Mode(arguments["mode"])) if function == "set" else proxy.reset())
    return None


if __name__ == "__main__":
    run_precisely(_serve())
