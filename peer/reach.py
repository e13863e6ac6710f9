"""How others reach this Peer: the address that it announces."""

from __future__ import annotations

import socket

import structlog

from swarm.address import Address

log = structlog.get_logger("peer.reach")


def announced_address(listening: Address, announce: Address | None) -> Address:
    """What ``--announce`` says, with the port listened on where it says 0; else what is listened on, or, where that is
    every interface, this machine's outward address there."""
    if announce is not None:
        return announce if announce.port else Address(announce.host, listening.port)
    if not listening.anywhere:
        return listening
    address = Address(outward_host(listening.host), listening.port)
    log.info("announcing the outward address; choose another with --announce", address=str(address))
    return address


def outward_host(listening_host: str) -> str:
    """The address this machine uses towards the internet; loopback where it has none. Sends nothing."""
    family, far, near = (
        (socket.AF_INET6, "2001:db8::1", "::1") if ":" in listening_host else (socket.AF_INET, "192.0.2.1", "127.0.0.1")
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return near
