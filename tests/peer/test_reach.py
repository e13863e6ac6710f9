from __future__ import annotations

import ipaddress

import pytest

from peer.reach import announced_address, outward_host
from swarm.address import Address


def test_what_is_listened_on_is_announced():
    assert announced_address(Address("127.0.0.1", 4000), None) == Address("127.0.0.1", 4000)


def test_announce_wins_and_its_port_zero_means_the_one_listened_on():
    assert announced_address(Address("0.0.0.0", 4000), Address("example.org", 80)) == Address("example.org", 80)
    assert announced_address(Address("0.0.0.0", 4000), Address("example.org", 0)) == Address("example.org", 4000)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_nobody_is_told_to_dial_all_interfaces(host: str):
    address = announced_address(Address(host, 4000), None)
    assert not address.anywhere and address.port == 4000
    assert address.host == outward_host(host)
    assert ipaddress.ip_address(address.host).version == (6 if ":" in host else 4)
