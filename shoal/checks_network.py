"""The network as far as it can be known from inside: ports that can be listened on, the address that is announced.

Nobody can know from inside whether a stranger gets in. What can be tried is tried: whether the port is free, whether
the announced address leads back to this process (through the router, if it does that), and the DHT's own test, in which
a peer of the swarm calls back (``checks_swarm``). What remains is said, with the command for somebody outside.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress

from dht.daemon import local_address
from peer.reach import announced_address
from proto.connection import Connection
from shoal.finding import Finding
from swarm.address import Address
from swarm.errors import AddressInUse, Fault, UsageError

DIAL_S = 3.0
START_S = 20.0  # the p2p daemon, on a busy machine
LOOPBACK = ("127.", "::1", "localhost")


def is_loopback(host: str) -> bool:
    return host.startswith(LOOPBACK)


async def port(check: str, address: Address) -> Finding:
    """Whether a peer could listen on ``address``."""
    try:
        bound = await local_address(address)
    except AddressInUse:
        said = f"{address} is in use; by your own peer, perhaps"
        if await _answers_as_peer(Address("127.0.0.1", address.port) if address.anywhere else address):
            return Finding(check, "ok", f"{address} is in use by a running Shoal peer")
        return Finding(
            check,
            "warn",
            said,
            f"if it is not yours: choose another port (who has it: ss -ltnp sport = :{address.port})",
        )
    except UsageError as error:
        return Finding(
            check, "fail", str(error), "name an address of this machine (ip addr), or 0.0.0.0 for all of them"
        )
    return judge_port(check, address, bound)


def judge_port(check: str, address: Address, bound: Address) -> Finding:
    """``bound``: what ``address`` is on this machine."""
    where = f"{address} can be listened on" + (" (any free port)" if address.port == 0 else "")
    if is_loopback(bound.host):
        return Finding(check, "ok", f"{where}; only this machine can reach it")
    if address.port == 0:
        advice = f"name a port and open it in the firewall: {Address(address.host, 31330)}"
        return Finding(check, "warn", f"{where}: another one after every start", advice)
    return Finding(check, "ok", where)


async def daemon() -> Finding:
    """Whether the p2p daemon (libp2p) runs here at all: it starts a swarm of its own for a moment."""
    from dht.node import HivemindDirectory

    directory = await HivemindDirectory.create(start_timeout_s=START_S)
    await directory.close()
    return Finding("p2p daemon", "ok", "starts")


async def announced(listen: Address, announce: Address | None) -> Finding:
    """Dials what a peer here would announce, and looks whether the call comes out here."""
    address = announced_address(listen, announce)
    if address.port == 0 or is_loopback(address.host):
        return judge_announced(address, None, named=announce is not None)
    word = secrets.token_bytes(16)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word)
        with suppress(OSError):
            await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(greet, listen.host, listen.port)
    except OSError:  # taken: then whoever listens there has to be the peer
        return judge_announced(address, await _answers_as_peer(address), named=announce is not None, running=True)
    async with server:
        heard = await _read(address, len(word))
    if isinstance(heard, str):
        return judge_announced(address, False, named=announce is not None, why=heard)
    return judge_announced(address, heard == word, named=announce is not None, why="something else answers there")


def judge_announced(
    address: Address, came_back: bool | None, *, named: bool, why: str = "no peer answers there", running: bool = False
) -> Finding:
    """``came_back``: whether a call to ``address`` came out here; None where that cannot be tried."""
    if came_back is None and address.port == 0:
        return Finding("announced address", "skipped", f"{address}: known when a peer has its port")
    if came_back is None:
        said = f"{address}: only peers and clients on this machine can dial it"
        if named:
            return Finding(
                "announced address", "warn", said, "announce an address that others can dial: --announce my.host:31330"
            )
        return Finding("announced address", "ok", f"{said} (others: --listen 0.0.0.0:31330)")
    outside = f"ask somebody outside: nc -vz {address.host} {address.port}"
    if came_back:
        by = "your running peer" if running else "this machine"
        return Finding(
            "announced address",
            "ok",
            f"{address} leads to {by}; whether from outside too cannot be known from inside ({outside})",
        )
    advice = f"open and forward port {address.port}; many routers do not lead a call from inside back, so {outside}"
    return Finding("announced address", "warn", f"{address} does not lead here: {why}", advice)


async def dial(address: Address, timeout_s: float = DIAL_S) -> str | None:
    """Why nobody accepts a connection at ``address``; None where somebody does."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return _reason(error)
    writer.close()
    return None


async def _read(address: Address, count: int) -> bytes | str:
    """The first bytes that come from ``address``, or why none do."""
    try:
        async with asyncio.timeout(DIAL_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                return await reader.readexactly(count)
            finally:
                writer.close()
    except asyncio.IncompleteReadError:
        return b""
    except TimeoutError:
        return f"no answer within {DIAL_S:g} s"
    except OSError as error:
        return _reason(error)


def _reason(error: OSError) -> str:
    """asyncio's own text names addresses and no reason."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)


async def _answers_as_peer(address: Address) -> bool:
    connection = Connection(str(address))
    try:
        await connection.info(DIAL_S)
    except Fault:
        return False
    finally:
        await connection.close()
    return True
