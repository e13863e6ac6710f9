"""Ports that are free, taken or not ours; an announced address that leads back here, or elsewhere, or nowhere."""

from __future__ import annotations

import socket

import pytest

from shoal import checks_network as checks
from swarm.address import Address


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def test_a_free_port_is_well_and_an_open_one_without_number_is_a_warning():
    assert (await checks.port("listen port", Address("127.0.0.1", free_port()))).state == "ok"
    assert (await checks.port("listen port", Address("127.0.0.1", 0))).state == "ok"
    assert (await checks.port("listen port", Address("0.0.0.0", 0))).state == "warn"
    assert checks.judge_port("listen port", Address("0.0.0.0", 31330), Address("0.0.0.0", 31330)).state == "ok"


async def test_a_taken_port_and_an_address_of_somebody_else_are_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finding = await checks.port("listen port", Address("127.0.0.1", taken.getsockname()[1]))
    assert finding.state == "warn" and "in use" in finding.found
    assert (await checks.port("listen port", Address("192.0.2.1", 31330))).state == "fail"
    assert (await checks.port("listen port", Address("no.such.host.invalid", 31330))).state == "fail"


async def test_nobody_can_dial_loopback_from_elsewhere():
    here = Address("127.0.0.1", free_port())
    assert (await checks.announced(here, None)).state == "ok"
    assert (await checks.announced(here, Address("127.0.0.1", here.port))).state == "warn"


async def test_an_announced_address_that_leads_here_is_well_and_what_cannot_be_known_is_said():
    port = free_port()
    finding = await checks.announced(Address("0.0.0.0", port), None)  # this machine's outward address
    if "only peers and clients on this machine" not in finding.found:  # it has one
        assert finding.state == "ok"
        assert (
            "cannot be known from inside" in finding.found
            and f"nc -vz {finding.found.split(':')[0]} {port}" in finding.found
        )


async def test_an_announced_address_that_leads_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        monkeypatch.setattr(checks, "DIAL_S", 0.2)
        monkeypatch.setattr(checks, "LOOPBACK", ("nowhere",))  # so that one machine can play two
        finding = await checks.announced(Address("127.0.0.1", free_port()), Address(*other.getsockname()))
    assert finding.state == "warn" and "does not lead here" in finding.found


async def test_dialling_says_why_nobody_answers():
    assert await checks.dial(Address("127.0.0.1", free_port())) == "Connection refused"
    with socket.create_server(("127.0.0.1", 0)) as there:
        assert await checks.dial(Address(*there.getsockname())) is None
