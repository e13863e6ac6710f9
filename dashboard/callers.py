"""Callers: who asks, and how often each may. Behind a proxy uvicorn takes the address from its X-Forwarded-For, if the
proxy is on this machine.
"""

from __future__ import annotations

import ipaddress

from starlette.requests import HTTPConnection


def caller_of(request: HTTPConnection) -> str:
    """The address; of IPv6 the /64, which is what one household has."""
    host = request.client.host if request.client is not None else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return host
