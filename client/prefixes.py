"""Prefixes: what a client knows of the Pages that peers keep of its earlier Sessions. Pure.

A peer names the Pages of a Seat's input by digests of what it really received (``Kept``); naming them again in an Open
gets their KV back without sending anything. Only the client knows which tokens that input stands for. It believes a
name as far as it can without trusting anybody more than before: it repeats it to the peer that gave it, for the same
Blocks, behind the same peers upstream. So a peer that lies about its Pages, or sends wrong activations on, spoils no
Session that does not go through it anyway (docs/decisions/0011-prefix-cache.md).
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Sequence

from proto.limits import DIGEST_BYTES, PAGE_TOKENS
from proto.messages import WireDType
from swarm.route import Hop

MAX_NAMES = 1 << 16


class Chain:
    """Digests of the first 1, 2, 3 … Pages of a Session's tokens."""

    def __init__(self, page_tokens: int = PAGE_TOKENS):
        self._page_tokens = page_tokens
        self._digests: list[bytes] = []

    def upto(self, tokens: Sequence[int], pages: int) -> Sequence[bytes]:
        """Those of the first ``pages`` Pages; ``tokens`` only ever grow."""
        size = self._page_tokens
        while len(self._digests) < min(pages, len(tokens) // size):
            at = len(self._digests) * size
            before = self._digests[-1] if self._digests else b""
            page = struct.pack(f"<{size}I", *tokens[at : at + size])
            self._digests.append(hashlib.blake2b(before + page, digest_size=DIGEST_BYTES).digest())
        return self._digests[:pages]


class Naming:
    """Of one Session: names come as peers have Pages full, which may be before their tokens have come."""

    def __init__(self, prefixes: Prefixes):
        self._prefixes, self._chain = prefixes, Chain(prefixes.page_tokens)
        self._waiting: dict[tuple[str, int], bytes] = {}  # (place, Page) → name

    def note(self, place: str, first: int, names: Sequence[bytes]) -> None:
        """At ``place``, Pages from ``first`` on are called ``names``."""
        self._waiting.update({(place, page): name for page, name in enumerate(names, first)})

    def learn(self, tokens: Sequence[int]) -> None:
        """The Session's tokens are these so far; what they fill is known from now on."""
        pages = len(tokens) // self._prefixes.page_tokens
        chains = self._chain.upto(tokens, pages)
        for place, page in [key for key in self._waiting if key[1] < pages]:
            self._prefixes.learn(place, chains[page], self._waiting.pop((place, page)))

    def known(self, place: str, tokens: Sequence[int]) -> tuple[bytes, ...]:
        """What the first Pages of these are called at ``place``."""
        return self._prefixes.known(place, self._chain.upto(tokens, len(tokens) // self._prefixes.page_tokens))


class Prefixes:
    """Of all Sessions of a client. The longest unused names are forgotten."""

    def __init__(self, page_tokens: int = PAGE_TOKENS, max_names: int = MAX_NAMES):
        self.page_tokens = page_tokens
        self._max_names = max_names
        self._names: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def learn(self, place: str, chain: bytes, name: bytes) -> None:
        """At ``place``, the Page that ends the token chain ``chain`` is called ``name``."""
        self._names[place, chain] = name
        self._names.move_to_end((place, chain))
        while len(self._names) > self._max_names:
            self._names.popitem(last=False)

    def known(self, place: str, chains: Sequence[bytes]) -> tuple[bytes, ...]:
        """The names of the longest run of Pages from the first on."""
        found: list[bytes] = []
        for chain in chains:
            name = self._names.get((place, chain))
            if name is None:
                break
            self._names.move_to_end((place, chain))
            found.append(name)
        return tuple(found)


def place_of(hop: Hop, upstream: Sequence[Hop], wire: WireDType) -> str:
    """Where a name holds: at this process of a peer, for these Blocks, behind these processes of others."""
    route = " ".join(f"{h.peer.peer_id} {h.peer.instance} {h.span}" for h in (*upstream, hop))
    return f"{route} {wire.name}"
