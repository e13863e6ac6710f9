from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.kit.proxies import Plugs, Proxies, free_port
from benchmarks.kit.proxy import BURST_BYTES, Mode, Proxy, Schedule, Wire

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Far:
    """A server that hands its connections to the test."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[Ends] = asyncio.Queue()
        self.address = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.came.put_nowait((reader, writer))

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def far_end() -> AsyncIterator[Far]:
    far = Far()
    server = await asyncio.start_server(far.take, "127.0.0.1", 0)
    far.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield far
    finally:
        server.close()
        far.close()
        await server.wait_closed()


@asynccontextmanager
async def dialled(address: str) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection(*address.split(":"))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def carry(data: bytes, sender: asyncio.StreamWriter, receiver: asyncio.StreamReader) -> bytes:
    """What arrives of ``data``, the sender's end included."""

    async def send() -> None:
        sender.write(data)
        await sender.drain()
        sender.write_eof()

    _, got = await asyncio.gather(send(), receiver.read())
    return got


async def test_megabytes_arrive_byte_for_byte_both_ways_through_jitter_and_little_bandwidth():
    there, back = random.Random(1).randbytes(3 << 20), random.Random(2).randbytes(2 << 20)
    wire = Wire(latency_s=0.002, jitter_s=0.003, bytes_per_s=40e6)
    async with (
        far_end() as far,
        Proxy(far.address, up=wire, down=wire, buffer_bytes=1 << 18) as proxy,
        dialled(proxy.address) as near,
    ):
        end = await far.came.get()
        got = await asyncio.gather(carry(there, near[1], end[0]), carry(back, end[1], near[0]))
        assert got == [there, back]


async def test_order_is_kept_whatever_the_jitter():
    async with (
        far_end() as far,
        Proxy(far.address, up=Wire(jitter_s=0.005)) as proxy,
        dialled(proxy.address) as near,
    ):
        end = await far.came.get()

        async def trickle() -> None:
            for number in range(100):
                near[1].write(number.to_bytes(4))
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(trickle())
            assert [int.from_bytes(await end[0].readexactly(4)) for _ in range(100)] == list(range(100))


async def test_latency_is_that_of_the_way_and_the_dial_costs_a_round_trip():
    loop = asyncio.get_running_loop()
    wires = {"up": Wire(latency_s=0.03), "down": Wire(latency_s=0.01)}
    async with far_end() as far, Proxy(far.address, **wires) as proxy:
        begun = loop.time()
        async with dialled(proxy.address) as near:
            end = await far.came.get()
            assert loop.time() - begun >= 0.04
            begun = loop.time()
            near[1].write(b"x")
            await end[0].readexactly(1)
            assert loop.time() - begun >= 0.03
            begun = loop.time()
            end[1].write(b"y")
            await near[0].readexactly(1)
            assert loop.time() - begun >= 0.01


async def test_a_sender_waits_when_the_wire_is_full():
    async with (
        far_end() as far,
        Proxy(far.address, up=Wire(bytes_per_s=1000.0), buffer_bytes=1 << 16) as proxy,
        dialled(proxy.address) as near,
    ):
        near[1].write(bytes(64 << 20))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(near[1].drain(), 0.2)
        transport = near[1].transport
        assert transport.get_write_buffer_size() > 32 << 20  # the rest is the kernel's


async def test_a_black_hole_takes_everything_and_says_nothing_and_what_was_in_it_is_reset():
    async with far_end() as far, Proxy(far.address) as proxy, dialled(proxy.address) as old:
        end = await far.came.get()
        await proxy.set(Mode.BLACKHOLE)
        old[1].write(bytes(4 << 20))
        await old[1].drain()
        end[1].write(b"lost")
        async with dialled(proxy.address) as new:
            new[1].write(b"hello?")
            await new[1].drain()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.gather(old[0].read(1), new[0].read(1), end[0].read(1)), 0.2)
            assert far.came.empty()
            await proxy.set(Mode.PASS)
            for reader in (old[0], new[0], end[0]):
                with pytest.raises(ConnectionResetError):
                    await reader.readexactly(1)
        async with dialled(proxy.address) as near:
            near[1].write(b"x")
            assert await (await far.came.get())[0].readexactly(1) == b"x"


async def test_a_reset_is_heard_at_both_ends():
    async with far_end() as far, Proxy(far.address) as proxy, dialled(proxy.address) as near:
        end = await far.came.get()
        await proxy.reset()
        for reader in (near[0], end[0]):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert proxy.num_connections == 0


async def test_who_is_refused_hears_it_while_connections_that_are_there_go_on():
    async with far_end() as far, Proxy(far.address) as proxy, dialled(proxy.address) as near:
        end = await far.came.get()
        await proxy.set(Mode.REFUSE)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*proxy.address.split(":"))
        near[1].write(b"x")
        assert await end[0].readexactly(1) == b"x"
        await proxy.set(Mode.PASS)
        async with dialled(proxy.address):
            await far.came.get()


async def test_a_far_end_that_is_not_there_is_a_reset():
    async with Proxy(f"127.0.0.1:{free_port()}") as proxy, dialled(proxy.address) as near:
        with pytest.raises(ConnectionResetError):
            await near[0].read()


@pytest.mark.parametrize("reset", [False, True])
async def test_what_was_sent_before_an_end_or_a_reset_travels_first(reset: bool):
    async with (
        far_end() as far,
        Proxy(far.address, down=Wire(latency_s=0.05)) as proxy,
        dialled(proxy.address) as near,
    ):
        end = await far.came.get()
        end[1].write(b"last words")
        if reset:
            linger = struct.pack("ii", 1, 0)
            end[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        end[1].close()
        assert await near[0].readexactly(10) == b"last words"
        if not reset:
            assert await near[0].read() == b""
            return
        with pytest.raises(ConnectionResetError):
            await near[0].read()


async def test_leaving_it_ends_every_connection_and_every_task():
    async with far_end() as far, Proxy(far.address) as proxy, dialled(proxy.address):
        await far.came.get()
        assert proxy.num_connections == 1
        await proxy.__aexit__()
        assert proxy.num_connections == 0
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
        assert not names & {"Proxy._connection", "Proxy._accept", "_pump", "_read", "_write"}


def test_the_same_seed_draws_the_same_delays_and_another_seed_others():
    def delays(seed: str) -> list[float]:
        schedule = Schedule(Wire(latency_s=0.1, jitter_s=0.1), seed)
        return [schedule.due(float(at), 100) - at for at in range(50)]

    assert delays("7/0/up") == delays("7/0/up") != delays("7/1/up")
    assert all(0.1 <= delay <= 0.2 for delay in delays("7/0/up"))


def test_nothing_overtakes():
    schedule = Schedule(Wire(jitter_s=1.0), "0")
    dues = [schedule.due(at / 100, 1) for at in range(200)]
    assert dues == sorted(dues)


def test_a_bucket_gives_its_burst_at_once_and_then_the_bandwidth():
    schedule = Schedule(Wire(latency_s=1.0, bytes_per_s=1000.0), "0")
    assert schedule.due(0.0, BURST_BYTES) == 1.0
    assert schedule.due(0.0, 500) == pytest.approx(1.5)
    assert schedule.due(0.0, 500) == pytest.approx(2.0)
    assert schedule.due(100.0, BURST_BYTES + 1000) == pytest.approx(102.0)  # it was full again, no more than full


@pytest.mark.parametrize("values", [{"latency_s": -1.0}, {"jitter_s": -0.1}, {"bytes_per_s": 0.0}])
def test_a_wire_that_cannot_be_is_refused(values: dict[str, float]):
    with pytest.raises(ValueError):
        Wire(**values)


async def test_in_a_process_of_its_own_it_is_spoken_to_by_name():
    async with far_end() as far:
        with Proxies() as proxies:
            address = proxies.open(far.address, Wire(latency_s=0.01))
            async with dialled(address) as near:
                end = await far.came.get()
                begun = time.monotonic()
                near[1].write(b"x")
                assert await end[0].readexactly(1) == b"x"
                assert time.monotonic() - begun >= 0.01
                proxies.reset(address)
                with pytest.raises(ConnectionResetError):
                    await near[0].read()
            proxies.set(address, Mode.REFUSE)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address.split(":"))


def test_a_peer_is_plugged_in_twice_once_for_peers_and_once_for_the_client():
    with Proxies() as proxies:
        plugs = Plugs(proxies)
        options = plugs.plug(Wire(latency_s=0.005), Wire(latency_s=0.075))
        assert options[0::2] == ("--listen", "--announce")
        assert list(plugs.for_client) == plugs.announced == [options[3]]
        assert len({options[1], options[3], plugs.for_client[options[3]]}) == 3
