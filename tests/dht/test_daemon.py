from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest

from dht.daemon import Daemon, first_port, maddr
from swarm.address import Address
from swarm.errors import SwarmError


@pytest.mark.parametrize(
    ("address", "multiaddr"),
    [
        ("0.0.0.0:31337", "/ip4/0.0.0.0/tcp/31337"),
        ("[::1]:5", "/ip6/::1/tcp/5"),
        ("peer.example.org:4000", "/dns4/peer.example.org/tcp/4000"),
    ],
)
def test_an_address_becomes_a_multiaddr(address: str, multiaddr: str):
    assert maddr(Address.parse(address)) == multiaddr


def test_the_port_is_found_in_a_multiaddr():
    assert first_port(["/unix/x", "/ip4/1.2.3.4/tcp/77/p2p/Q"]) == 77
    assert first_port([]) is None


async def test_a_daemon_that_cannot_be_run_is_one_clear_error(tmp_path):
    with pytest.raises(SwarmError, match=r"cannot start the p2p daemon .*reinstall hivemind"):
        await Daemon.start(tmp_path / "p2pd", listen=None, timeout_s=5)


async def test_the_last_words_of_a_daemon_that_ends_at_once_are_told(tmp_path):
    binary = tmp_path / "p2pd"
    binary.write_text("#!/bin/sh\necho starting\necho no luck today\n")
    binary.chmod(0o700)
    with pytest.raises(SwarmError, match="did not start: no luck today"):
        await Daemon.start(binary, listen=None, timeout_s=5)


async def test_a_daemon_that_something_kills_at_once_says_so(tmp_path):
    binary = tmp_path / "p2pd"
    binary.write_text("#!/bin/sh\nkill -SEGV $$\n")
    binary.chmod(0o700)
    with pytest.raises(SwarmError, match=r"did not start: it said nothing \(killed by signal 11"):
        await Daemon.start(binary, listen=None, timeout_s=5)


async def test_a_daemon_that_never_gets_ready_is_ended(tmp_path):
    binary = tmp_path / "p2pd"
    binary.write_text("#!/bin/sh\nexec sleep 1000\n")
    binary.chmod(0o700)
    with pytest.raises(SwarmError, match=r"within 0\.2 s"):
        await Daemon.start(binary, listen=None, timeout_s=0.2)


async def test_nobody_but_us_waits_for_the_daemon_so_nobody_finds_it_reaped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    binary = tmp_path / "p2pd"
    binary.write_text("#!/bin/sh\necho Peer ID: x\n[ -e $0.stays ] && exec sleep 1000\n")
    binary.chmod(0o700)
    caplog.set_level(logging.WARNING)
    for turn in range(20):  # some end by themselves just as they are told to
        if turn == 10:
            (tmp_path / "p2pd.stays").touch()
        daemon = await Daemon.start(binary, listen=None, timeout_s=20)
        assert [thread.name for thread in threading.enumerate() if "waitpid" in thread.name] == []
        await daemon.close()
        assert not daemon.alive
        with pytest.raises(ChildProcessError):
            os.waitpid(daemon.pid, os.WNOHANG)  # noqa: ASYNC222
        await daemon.close()  # once more does no harm
    assert caplog.records == []


async def test_a_daemon_that_died_is_noticed(tmp_path: Path):
    binary = tmp_path / "p2pd"
    binary.write_text("#!/bin/sh\necho Peer ID: x\n")
    binary.chmod(0o700)
    daemon = await Daemon.start(binary, listen=None, timeout_s=20)
    async with asyncio.timeout(20):
        while daemon.alive:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await daemon.close()
