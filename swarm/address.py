"""How addresses are written: host:port, and the multiaddr through which a swarm is joined. Resolves and dials none."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import UsageError

SWARM_VARIABLE = "SHOAL_SWARM"  # where the join addresses are looked for when none are given
MAX_FILE_BYTES = 65536

_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})")
_JOIN = re.compile(r"(/(?:ip4|ip6|dns|dns4|dns6)/([^/\s]{1,253})/tcp/([0-9]{1,5}))/p2p/([A-Za-z0-9]{1,128})")


@dataclass(frozen=True, slots=True)
class Address:
    """host:port. An IPv6 host is written in brackets, and kept without; port 0 means any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, what: str = "address") -> Address:
        """``what`` is the option that it came from. Raises UsageError."""
        found = _HOST_PORT.fullmatch(text)
        if not found or int(found[3]) > 65535:
            raise UsageError(f"{what} {text[:80]!r} is not an address; write host:port, for example 127.0.0.1:31330")
        return cls(found[1] or found[2], int(found[3]))

    @property
    def anywhere(self) -> bool:
        """Whether it stands for all interfaces, so that nobody can dial it."""
        return self.host in ("0.0.0.0", "::", "::0")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class JoinAddress:
    """A multiaddr with /p2p/, as a peer prints under "join" when it is ready."""

    text: str
    transport: str  # the part before /p2p/
    host: str
    port: int
    peer_id: str

    @classmethod
    def parse(cls, text: str) -> JoinAddress:
        """Raises UsageError. Whether the host and the peer id mean anything is for the DHT to say."""
        found = _JOIN.fullmatch(text.strip())
        if not found or not 0 < int(found[3]) < 65536:
            raise UsageError(
                f"cannot join {text[:120]!r}: expected a multiaddr like /ip4/203.0.113.7/tcp/31337/p2p/12D3Koo…, "
                'as a peer prints under "join" when it is ready'
            )
        return cls(found[0], found[1], found[2], int(found[3]), found[4])


def read_swarm(swarm: str | Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The addresses to join through, each once: one string may hold several, separated by commas or spaces; None means
    those in $SHOAL_SWARM. ``@FILE`` stands for those in a file, so that all on a machine may share one list. Empty
    where there are none. Raises UsageError for one that cannot be an address."""
    if swarm is None:
        swarm = environ.get(SWARM_VARIABLE, "")
    texts = _words(swarm) if isinstance(swarm, str) else swarm
    named = (word for text in texts for word in (_read(text[1:]) if text.startswith("@") else (text,)))
    return tuple(dict.fromkeys(JoinAddress.parse(text).text for text in named))


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _read(name: str) -> list[str]:
    """The addresses in a file; a line that begins with # is a comment."""
    try:
        with Path(name).expanduser().open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise UsageError(f"{name} is larger than {MAX_FILE_BYTES} bytes; a list of join addresses is short")
        lines = content.decode().splitlines()
    except OSError as error:
        raise UsageError(f"cannot read join addresses from {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not text; it should hold join addresses, one on a line") from None
    found = [word for line in lines if not line.lstrip().startswith("#") for word in _words(line)]
    if not found:
        raise UsageError(f"{name} holds no join address")
    return found
