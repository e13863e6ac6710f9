"""HivemindDirectory: the Directory over hivemind's Kademlia DHT. The only file that knows hivemind.

A DHTNode lives in our own event loop and talks through the p2p daemon (``daemon``). hivemind's habits, and what we do:

- it believes every value: ``_Bounds`` refuses, on arrival, what cannot be a record (plain values, which would replace
  a whole dictionary; far expiries; large values; bytes that hivemind would fail to unpack in the end, leaving a reader
  to wait for ever);
- its caches answer with old pictures: they are off, and every read asks all the nearest nodes for the latest;
- it forgets a node that failed once: the ``doors`` are knocked at again while they are not among our neighbours, so a
  swarm whose first Peer restarts grows together again;
- it prints: its log handler is taken off, and only errors pass on.
"""

# hivemind has no usable types: what comes from it is Any here, and nothing of it leaves this file.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import logging
import os
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dht.bare import import_bare
from dht.daemon import Daemon, first_port
from dht.directory import RecordDirectory, Stored
from dht.doors import KNOCK_EVERY_S, LONELY_KNOCK_S, Door, Doors, explain
from dht.records import CLOCK_SKEW_S, MAX_RECORD_BYTES, MAX_TTL_S
from swarm.address import Address, JoinAddress
from swarm.clock import Clock, SystemClock
from swarm.errors import SwarmError, SwarmUnreachable, UsageError

with warnings.catch_warnings():  # hivemind imports what torch and importlib are about to drop
    warnings.simplefilter("ignore")
    import_bare("hivemind")
    from hivemind.dht.node import DHTNode
    from hivemind.dht.protocol import ValidationError
    from hivemind.dht.routing import DHTID
    from hivemind.dht.validation import DHTRecord, RecordValidatorBase
    from hivemind.p2p import P2P, PeerID
    from hivemind.p2p.p2p_daemon_bindings.utils import read_pbmsg_safe, write_pbmsg
    from hivemind.proto import p2pd_pb2
    from hivemind.utils.logging import use_hivemind_log_handler
    from hivemind.utils.multiaddr import Multiaddr

log = logging.getLogger("shoal.dht")

START_TIMEOUT_S = 30.0  # for the daemon on a busy machine
JOIN_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
RPC_TIMEOUT_S = 3.0
SHUN_S = 30.0  # a node that did not answer; asking it again would cost every operation the timeout
OPERATION_TIMEOUT_S = 10.0  # one put or get, all its RPCs


class _Bounds(RecordValidatorBase):
    """What this node stores, and believes of others: dictionary entries whose size and expiry a record may have.

    hivemind hands over values as msgpack: a subkey is a string of 32, a value is binary.
    """

    _SUBKEY = re.compile(rb"\xd9\x20[0-9a-f]{32}")

    def __init__(self, clock: Clock):
        self._clock = clock

    def validate(self, record: DHTRecord) -> bool:
        return (
            self._SUBKEY.fullmatch(record.subkey) is not None
            and len(record.value) <= MAX_RECORD_BYTES + 3
            and _is_packed_bytes(record.value)
            and record.expiration_time <= self._clock.wall() + MAX_TTL_S + CLOCK_SKEW_S
        )


def _is_packed_bytes(value: bytes) -> bool:
    """Whether ``value`` is exactly one msgpack bin8 or bin16."""
    head = {b"\xc4": 2, b"\xc5": 3}.get(value[:1])
    return head is not None and len(value) == head + int.from_bytes(value[1:head], "big")


@dataclass(slots=True)
class _Running:
    """A daemon and the DHT node that talks through it."""

    daemon: Daemon
    p2p: Any
    node: Any

    async def close(self) -> None:
        self.node.is_alive = False  # ends its background tasks; its handlers end with the daemon
        await self.p2p.shutdown()
        control = self.p2p._client.control
        await asyncio.gather(control._read_task, control._write_task, return_exceptions=True)
        await self.daemon.close()


class HivemindDirectory(RecordDirectory):
    """See ``create``."""

    def __init__(
        self,
        listen: Address | None,
        announce: Address | None,
        identity_path: Path | None,
        clock: Clock,
        start_timeout_s: float,
    ):
        super().__init__(clock)
        self._listen, self._announce = listen, announce
        self._identity_path, self._start_timeout_s = identity_path, start_timeout_s
        self._running: _Running | None = None
        self._starting = asyncio.Lock()
        self._addresses: tuple[str, ...] = ()
        self._doors = Doors((), clock, self._is_neighbour, self._reach)

    @classmethod
    async def create(
        cls,
        *,
        listen: str = "127.0.0.1:0",
        announce: str | None = None,
        join: Sequence[str] = (),
        identity_path: Path | None = None,
        client_mode: bool = False,
        clock: Clock | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        join_timeout_s: float = JOIN_TIMEOUT_S,
        found_after_s: float | None = None,
    ) -> HivemindDirectory:
        """Takes part in the swarm that ``join`` (multiaddrs with /p2p/) belongs to, or starts a new one without it, or
        where nobody there has answered for ``found_after_s``.

        ``listen`` and ``announce`` are host:port; ``identity_path`` holds the key behind this node's multiaddr and is
        made when missing. ``client_mode``: only dials out, and keeps nothing for others. Raises UsageError for what
        cannot be meant, AddressInUse, and SwarmUnreachable when none of ``join`` answers in time.
        """
        doors = tuple(_read_door(text) for text in dict.fromkeys(join))
        listening = None if client_mode else Address.parse(listen, "listen address")
        announced = None if client_mode or announce is None else Address.parse(announce, "announced address")
        if announced is not None and announced.port == 0:
            raise UsageError(f"cannot announce {announce}: port 0 means any; name the port that others can dial")
        use_hivemind_log_handler("nowhere")
        logging.getLogger("hivemind").setLevel(logging.ERROR)
        if identity_path is not None:
            await asyncio.to_thread(ensure_identity, identity_path)
        clock = clock or SystemClock()
        self = cls(listening, announced, identity_path, clock, start_timeout_s)
        try:
            node = (await self._start()).node
            others = [door for door in doors if door.peer_id != node.peer_id]  # so that all may share one list
            self._doors = Doors(others, clock, self._is_neighbour, self._reach)
            if self._doors:
                await self._doors.enter(join_timeout_s, found_after_s)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RPC_TIMEOUT_S):
                        await node.find_nearest_nodes([node.node_id])
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._addresses

    async def close(self) -> None:
        await super().close()
        await self._doors.close()
        running, self._running = self._running, None
        if running is not None:
            await running.close()

    async def _put(self, keys: Mapping[str, str], value: bytes, expires_at: float) -> bool:
        node = await self._node()
        stored = await self._within(
            node.store_many(list(keys), [value] * len(keys), [float(expires_at)] * len(keys), list(keys.values()))
        )
        self._check_neighbours(node)
        return any(stored.values())

    async def _get(self, keys: Collection[str]) -> Mapping[str, Stored]:
        node = await self._node()
        self._check_neighbours(node)
        found = await self._within(node.get_many(keys, sufficient_expiration_time=float("inf")))
        self._check_neighbours(node)
        return {
            key: {subkey: (entry.value, entry.expiration_time) for subkey, entry in result.value.items()}
            for key, result in found.items()
            if result is not None  # then it is a dictionary of bytes: _Bounds lets nothing else in
        }

    async def _within(self, operation: Any) -> Any:
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                return await operation
        except TimeoutError as error:
            raise SwarmUnreachable(f"the DHT did not answer within {OPERATION_TIMEOUT_S:g} s") from error
        except Exception as error:  # hivemind has no tree of errors: here all of them become one of ours
            raise SwarmUnreachable(f"the DHT failed: {error!r}") from error

    # The node and its daemon.

    async def _node(self) -> Any:
        """The living node: with a new daemon when the old one died, knocking where a join address is missing."""
        async with self._starting:
            running = self._running
            if running is None or not running.daemon.alive:
                self._check_open()
                log.error("the p2p daemon died; starting another")
                running = await self._start()
                self._doors.open_again()
        node = running.node
        lonely = not _neighbours(node)
        knocks = self._doors.knock(LONELY_KNOCK_S if lonely else KNOCK_EVERY_S)
        if knocks and lonely:
            await asyncio.wait(knocks, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        return node

    async def _start(self) -> _Running:
        dead, self._running = self._running, None
        if dead is not None:
            await dead.close()
        binary = Path(str(importlib.resources.files("hivemind") / "hivemind_cli" / "p2pd"))
        daemon = await Daemon.start(
            binary,
            listen=self._listen,
            announce=self._announce,
            identity=self._identity_path,
            timeout_s=self._start_timeout_s,
        )
        try:
            p2p: Any = await P2P.replicate(Multiaddr(daemon.control))
            node: Any = await DHTNode.create(
                p2p=p2p,
                node_id=DHTID.generate(source=p2p.peer_id.to_bytes()),  # one identity, one place in everybody's table
                client_mode=self._listen is None,
                record_validator=_Bounds(self._clock),
                wait_timeout=RPC_TIMEOUT_S,
                cache_locally=False,
                cache_nearest=0,
                cache_on_store=False,
                cache_refresh_before_expiry=0,
                reuse_get_requests=False,
                blacklist_time=SHUN_S,
                backoff_rate=1.0,  # else one that froze for minutes would be shunned for hours
            )
            node.protocol.cache.maxsize = 0  # where strangers may still put things, and where they would hide ours
            if self._listen is not None:
                self._addresses = tuple(str(m) for m in await p2p.get_visible_maddrs(latest=True))
                self._listen = Address(self._listen.host, first_port(self._addresses) or self._listen.port)
        except BaseException as error:
            await daemon.close()
            if isinstance(error, Exception):
                raise SwarmError(f"cannot start the DHT: {error!r}") from error
            raise
        self._running = _Running(daemon, p2p, node)
        return self._running

    # Neighbours.

    async def _reach(self, door: Door) -> bool:
        """Connects to ``door`` and makes it a neighbour; False when it does not answer."""
        if self._running is None or not await door.is_open(CONNECT_TIMEOUT_S):
            return False
        if not await _connect(self._running.p2p, door):
            return False
        protocol = self._running.node.protocol
        try:
            node_id = await protocol.call_ping(door.peer_id, validate=True, strict=True)
        except ValidationError as error:
            raise SwarmUnreachable(explain(error)) from error
        if node_id is None:
            return False
        await protocol.update_routing_table(node_id, door.peer_id, responded=True)  # now, not in a task of its own
        self._running.node.blacklist.register_success(door.peer_id)
        return True

    def _is_neighbour(self, door: Door) -> bool:
        return self._running is not None and door.peer_id in self._running.node.protocol.routing_table

    def _check_neighbours(self, node: Any) -> None:
        """Raises SwarmUnreachable when we have joined a swarm and know nobody in it any more: what we say stays
        here then, and that we see nothing means nothing."""
        if _neighbours(node):
            self._doors.alone = False
        elif self._doors and not self._doors.alone:
            raise SwarmUnreachable(f"no peer of the swarm answers any more; knocking again at {self._doors}")


def _neighbours(node: Any) -> int:
    """How many nodes can be asked now."""
    return sum(peer_id not in node.blacklist for peer_id in node.protocol.routing_table.peer_id_to_uid)


async def _connect(p2p: Any, door: Door) -> bool:
    """Asks the daemon for a connection. (hivemind's own call leaks its socket when that fails.)"""
    wire: Any = p2pd_pb2
    target = wire.ConnectRequest(peer=PeerID.from_base58(str(door.peer_id)).to_bytes(), addrs=[door.address])
    request, response = wire.Request(type=wire.Request.CONNECT, connect=target), wire.Response()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await p2p._client.control.daemon_connector.open_connection()
            try:
                await write_pbmsg(writer, request)
                await read_pbmsg_safe(reader, response)
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError) as error:  # TimeoutError is an OSError
        log.debug("cannot reach %s: %r", door.text, error)
        return False
    if response.type == wire.Response.ERROR:
        log.debug("cannot reach %s: %s", door.text, response.error.msg)
    return response.type != wire.Response.ERROR


def _read_door(text: str) -> Door:
    read = JoinAddress.parse(text)
    try:
        Multiaddr(read.text)  # raises ValueError
        transport = Multiaddr(read.transport).to_bytes()
        return Door(read.text, PeerID.from_base58(read.peer_id), transport, read.host, read.port)
    except ValueError as error:
        raise UsageError(f"cannot join {read.text}: {error}; copy the address that a peer prints as it is") from error


def ensure_identity(path: Path) -> str:
    """The p2p id of the key in this file, which is made when missing. Refuses one that the daemon would choke on."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
            fresh.unlink(missing_ok=True)
            P2P.generate_identity(str(fresh))
            fresh.replace(path)
        return str(PeerID.from_identity(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"cannot use {path} as the p2p identity: {error.strerror}") from error
    except Exception as error:  # protobuf's DecodeError, cryptography's ValueError and others
        raise UsageError(f"{path} is not a p2p identity; remove it and a new one will be made") from error
