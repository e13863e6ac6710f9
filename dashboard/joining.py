"""Joining: the command that a newcomer copies into a shell. Pure.

What is in it comes from strangers, so everything is held to plain letters or quoted. It names no machine that nobody
agreed to name: addresses with an IP in them are shown only where the dashboard's operator said so
(``--public-join``), or where they are loopback, which is of use on that machine alone.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Sequence

from swarm.address import JoinAddress
from swarm.errors import UsageError
from swarm.span import Span

PLACEHOLDER = "MADDR"
MAX_ADDRESSES = 3
SAMPLE = "shoal-sample"  # what peers serve when they are told nothing
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}")


def shown_addresses(public: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """What newcomers may be told to join through: what the operator published, else those of the dashboard's own
    addresses that name no machine by its IP.
    """
    return tuple(public or [text for text in own if _harmless(text)])[:MAX_ADDRESSES]


def command(model: str, blocks: Span, profile: str, addresses: Sequence[str]) -> str:
    """One line for a shell."""
    words = ["shoal", "serve"]
    if model != SAMPLE:
        words += ["--model", model if _MODEL.fullmatch(model) else "MODEL"]
    words += ["--blocks", str(blocks)]
    if profile == "f32":
        words += ["--profile", profile]
    return shlex.join([*words, "--join", *(addresses or (PLACEHOLDER,))])


def _harmless(text: str) -> bool:
    try:
        host = JoinAddress.parse(text).host
    except UsageError:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True  # a name, which is there to be found
