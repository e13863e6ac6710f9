"""What can only be told of hivemind: joining, addresses, the daemon's life and death, strangers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dht.daemon import first_port
from dht.directory import Directory
from dht.doors import KNOCK_EVERY_S
from dht.node import DHTRecord, HivemindDirectory, _Bounds, _is_packed_bytes, ensure_identity
from dht.records import MAX_RECORD_BYTES, MAX_TTL_S, segment_keys
from swarm.clock import SystemClock
from swarm.errors import AddressInUse, SwarmUnreachable, UsageError
from swarm.peerinfo import PeerInfo
from swarm.span import Span
from tests.support.swarm import a_model, a_peer

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "/ip4/127.0.0.1/tcp/1/p2p/QmNpzZWJeF13hgHKVJDnsVhFNa6rK3qrMy4BjxRpY6sTJT"


class SkippingClock(SystemClock):
    """The system's clock, whose monotonic time can be told to skip ahead."""

    skipped_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped_s


Create = Callable[..., Any]


@pytest.fixture
async def create() -> AsyncIterator[Create]:
    """HivemindDirectory.create, with an end."""
    async with contextlib.AsyncExitStack() as stack:

        async def made(**options: Any) -> HivemindDirectory:
            directory = await HivemindDirectory.create(**options)
            stack.push_async_callback(directory.close)
            return directory

        yield made


def a_record(number: int = 1, **changes: Any) -> PeerInfo:
    return a_peer(number, **{"expires_at": SystemClock().wall() + 45, **changes})


def daemon_of(directory: HivemindDirectory) -> int:
    assert directory._running is not None
    return directory._running.daemon.pid


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def until(holds: Callable[[], bool], deadline_s: float = 15.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not holds():  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.02)


def forget_everybody(directory: HivemindDirectory) -> None:
    """As hivemind does with nodes that failed once."""
    table = directory._running.node.protocol.routing_table
    for node_id in list(table.uid_to_peer_id):
        del table[node_id]


async def knocked(directory: HivemindDirectory, clock: SkippingClock) -> bool:
    """Whether the swarm is found again, now that it is time to try."""
    clock.skipped_s += KNOCK_EVERY_S
    with contextlib.suppress(SwarmUnreachable):
        await directory.view(a_model())
        return True
    return False


async def ids(directory: Directory) -> list[int]:
    return [int(p.peer_id, 16) for p in (await directory.view(a_model())).peers]


@pytest.mark.parametrize(
    "text", ["", "hello", "127.0.0.1:31337", "/ip4/127.0.0.1/tcp/1", "/ip4/999.0.0.1/tcp/1/p2p/Qm", "/p2p/x"]
)
async def test_a_join_address_that_is_none_is_refused_in_one_line(text: str):
    with pytest.raises(UsageError, match="cannot join") as caught:
        await HivemindDirectory.create(join=[text])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"listen": "31337"}, "write host:port"),
        ({"listen": "192.0.2.77:0"}, "cannot listen on 192.0.2.77:0"),
        ({"listen": "nowhere.invalid:0"}, "not an address of this machine"),
        ({"announce": "example.org"}, "write host:port"),
        ({"announce": "example.org:0"}, "port 0 means any"),
    ],
)
async def test_an_address_that_cannot_be_meant_is_refused(options: dict[str, str], why: str):
    with pytest.raises(UsageError, match=why):
        await HivemindDirectory.create(**options)


async def test_where_nobody_answers_the_addresses_are_named():
    with pytest.raises(SwarmUnreachable, match=NOBODY):
        await HivemindDirectory.create(join=[NOBODY])


async def test_a_port_that_something_else_holds_is_in_use():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port} is in use"):
            await HivemindDirectory.create(listen=f"127.0.0.1:{port}")


async def test_a_port_of_another_peer_is_in_use_although_libp2p_would_share_it(create: Create):
    first = await create()
    with pytest.raises(AddressInUse):
        await HivemindDirectory.create(listen=f"127.0.0.1:{first_port(first.addresses)}")


async def test_a_lone_peer_keeps_its_own_record_and_tells_those_who_come_later(create: Create):
    first = await create()
    await first.publish(a_record(1))
    assert await ids(first) == [1]
    later = await create(join=first.addresses)
    assert await ids(later) == [1]


async def test_a_dead_join_address_beside_a_living_one_does_no_harm(create: Create):
    first = await create()
    await first.publish(a_record(1))
    assert await ids(await create(join=[NOBODY, *first.addresses], client_mode=True)) == [1]


async def test_who_lists_its_own_address_among_others_may_be_the_first(create: Create, tmp_path: Path):
    before = await HivemindDirectory.create(identity_path=tmp_path / "p2p.key")
    await before.close()
    (own,) = before.addresses
    again = await create(identity_path=tmp_path / "p2p.key", listen=f"127.0.0.1:{first_port([own])}", join=[own])
    assert again.addresses == (own,)


async def test_peers_that_name_each_other_come_up_in_any_order(create: Create, tmp_path: Path):
    keys = [tmp_path / "a" / "p2p.key", tmp_path / "b" / "p2p.key"]
    ports = [free_port(), free_port()]
    join = [f"/dns4/localhost/tcp/{port}/p2p/{ensure_identity(key)}" for key, port in zip(keys, ports, strict=True)]
    first = await create(identity_path=keys[0], listen=f"127.0.0.1:{ports[0]}", join=join, found_after_s=0.0)
    await first.publish(a_record(1))
    assert await ids(first) == [1]  # alone, and that is no error
    second = await create(identity_path=keys[1], listen=f"127.0.0.1:{ports[1]}", join=join)
    await second.publish(a_record(2))
    assert await ids(first) == await ids(second) == [1, 2]
    await second.close()
    with pytest.raises(SwarmUnreachable, match="knocking again"):  # who was not alone any more notices
        await first.view(a_model())


async def test_a_client_has_no_address_and_sees_those_it_was_not_told_of(create: Create):
    first = await create()
    second = await create(join=first.addresses)
    await first.publish(a_record(1))
    client = await create(join=second.addresses, client_mode=True)
    assert client.addresses == ()
    assert await ids(client) == [1]


async def test_what_is_announced_replaces_what_is_listened_on(create: Create):
    directory = await create(announce="peer.example.org:31337")
    assert [a.rsplit("/p2p/", 1)[0] for a in directory.addresses] == ["/dns4/peer.example.org/tcp/31337"]


async def test_the_identity_survives_a_restart_and_is_private(create: Create, tmp_path: Path):
    path = tmp_path / "new" / "p2p.key"
    first = await create(identity_path=path)
    name = first.addresses[0].rsplit("/", 1)[1]
    await first.close()
    again = await create(identity_path=path)
    assert again.addresses[0].rsplit("/", 1)[1] == name
    assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
    assert [p.name for p in path.parent.iterdir()] == ["p2p.key"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x00\x12\x04abcd"])
async def test_a_damaged_identity_is_refused_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "p2p.key").write_bytes(content)
    with pytest.raises(UsageError, match=r"is not a p2p identity; remove it") as caught:
        await HivemindDirectory.create(identity_path=tmp_path / "p2p.key")
    assert "\n" not in str(caught.value)


async def test_an_identity_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot use"):
        await HivemindDirectory.create(identity_path=tmp_path / "file" / "p2p.key")


async def test_closing_ends_the_daemon_and_leaves_no_socket(create: Create):
    directory = await create()
    pid, control = daemon_of(directory), directory._running.daemon.control.removeprefix("/unix")
    assert is_running(pid) and control in sockets()
    await directory.close()
    assert not is_running(pid) and control not in sockets()


async def test_a_failed_start_leaves_no_daemon():
    before = daemons()
    with pytest.raises(SwarmUnreachable):
        await HivemindDirectory.create(join=[NOBODY])
    assert daemons() <= before


async def test_a_sigkilled_process_leaves_no_daemon_and_ctrl_c_does_not_reach_it():
    code = "\n".join(
        [
            "import asyncio, os",
            "from dht.node import HivemindDirectory",
            "async def main():",
            "    directory = await HivemindDirectory.create()",
            "    print(directory._running.daemon.pid, flush=True)",
            "    await asyncio.Event().wait()",
            "asyncio.run(main())",
        ]
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        async with asyncio.timeout(60):
            assert process.stdout is not None
            pid = int(await process.stdout.readline())
        assert is_running(pid)
        assert os.getpgid(pid) != os.getpgid(process.pid), "a terminal's Ctrl-C would end it before we said goodbye"
    finally:
        process.kill()
        await process.communicate()
    await until(lambda: not is_running(pid))


async def test_a_daemon_that_dies_is_replaced_and_what_is_published_next_is_seen(create: Create, tmp_path: Path):
    first = await create()
    second = await create(join=first.addresses, identity_path=tmp_path / "p2p.key")
    addresses, pid, control = second.addresses, daemon_of(second), second._running.daemon.control.removeprefix("/unix")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not second._running.daemon.alive)
    await second.publish(a_record(2))
    assert second.addresses == addresses and daemon_of(second) != pid
    assert control not in sockets()
    assert await ids(first) == [2]


async def test_who_lost_all_neighbours_says_so_instead_of_showing_an_empty_swarm(create: Create):
    first = await create()
    client = await create(join=first.addresses, client_mode=True)
    await first.publish(a_record(1))
    assert await ids(client) == [1]
    await first.close()
    for _ in range(2):
        with pytest.raises(SwarmUnreachable, match=first.addresses[0]):
            await client.view(a_model())


async def test_a_swarm_grows_together_again_when_its_first_peer_restarts_alone(create: Create, tmp_path: Path):
    clock = SkippingClock()
    first = await create(identity_path=tmp_path / "p2p.key")
    second = await create(join=first.addresses, clock=clock)
    (address,) = first.addresses
    await first.close()
    forget_everybody(second)
    with pytest.raises(SwarmUnreachable):
        await second.view(a_model())
    again = await create(identity_path=tmp_path / "p2p.key", listen=f"127.0.0.1:{first_port([address])}")
    assert await ids(again) == []
    async with asyncio.timeout(20):  # libp2p shuns for 5 s an address that it found dead, if it tried meanwhile
        while not await knocked(second, clock):  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.1)
    await second.publish(a_record(2))
    assert await ids(again) == await ids(second) == [2]


async def test_a_strangers_plain_value_does_not_hide_the_peers(create: Create):
    first = await create()
    stranger = await create(join=first.addresses)
    await first.publish(a_record(1))
    (key,) = segment_keys(a_model(), Span(0, 8))
    stranger._running.node.protocol.record_validator = None  # a stranger writes what it likes
    stored = await stranger._running.node.store(key, b"nobody here", SystemClock().wall() + 100, exclude_self=True)
    assert not stored
    assert await ids(first) == [1]


async def test_a_strangers_raw_bytes_do_not_hang_a_reader(create: Create):
    """hivemind unpacks values when it has found them all; one that fails there would leave the reader waiting."""
    first = await create()
    stranger = await create(join=first.addresses)
    node = stranger._running.node
    (key,) = segment_keys(a_model(), Span(0, 8))
    key_id = type(node.node_id).generate(source=key)
    stored = await node.protocol.call_store(
        first._running.node.peer_id, [key_id], [b"\xc1 not msgpack"], [SystemClock().wall() + 40], ["ab" * 16]
    )
    assert stored == [False]
    await first.publish(a_record(1))
    assert await ids(first) == [1]


def test_hivemind_does_not_print():
    printing = [h for h in logging.getLogger("hivemind").handlers if type(h) is logging.StreamHandler]
    assert printing == []
    assert not logging.getLogger("hivemind").isEnabledFor(logging.WARNING)


@pytest.mark.parametrize(
    "value",
    [b"", b"\xc4", b"\xc4\x01", b"\xc4\x01ab", b"\xc5\x00", b"\xc5\x00\x01", b"\xa1a", b"\x93\x01\x02\x03", b"\xc1"],
)
def test_what_is_not_exactly_one_packed_binary_is_no_value(value: bytes):
    assert not _is_packed_bytes(value)


def test_bounds_admit_records_and_nothing_else():
    class Noon(SystemClock):
        def wall(self) -> float:
            return 1000.0

    bounds = _Bounds(Noon())
    subkey, value, until = b"\xd9\x20" + b"ab" * 16, b"\xc4\x02hi", 1045.0
    assert bounds.validate(DHTRecord(b"k", subkey, value, until))
    assert bounds.validate(DHTRecord(b"k", subkey, b"\xc5\x10\x00" + b"x" * MAX_RECORD_BYTES, until))
    for bad in (
        DHTRecord(b"k", b"\xc0", value, until),  # a plain value
        DHTRecord(b"k", b"\xd9\x20" + b"AB" * 16, value, until),
        DHTRecord(b"k", subkey + b"\n", value, until),
        DHTRecord(b"k", subkey, b"\xc5\x10\x01" + b"x" * (MAX_RECORD_BYTES + 1), until),
        DHTRecord(b"k", subkey, value, 1000.0 + MAX_TTL_S + 10),
        DHTRecord(b"k", subkey, value, float("inf")),
        DHTRecord(b"k", subkey, value, float("nan")),
    ):
        assert not bounds.validate(bad)


def sockets() -> set[str]:
    return {str(path) for path in Path(tempfile.gettempdir()).glob("shoal-p2pd-*")}


def daemons() -> set[int]:
    """The p2p daemons that this process has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in children if is_running(int(pid))}
