"""Learning what a model is, from peers of whom each may be silent, slow or lying.

Sizes, end tokens and the digests of the text files are what peers say; nothing proves them. So the few nearest are
asked at once and the word of most of them counts. A file is proven by its digest, so it may come from anybody: who
takes longer than a turn is left to go on while the next is asked too.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from client.assets import AssetStore
from client.pathfinder import Scout
from client.served import Served, choose_profile
from client.text import Codec, generation_defaults
from model.assets import ASSET_NAMES
from proto.messages import AssetRef, Info
from swarm.clock import Clock
from swarm.errors import BadRequest, ModelError, NoRoute, ShoalError, SwarmError, UsageError
from swarm.peerinfo import PeerInfo

JURY = 3  # peers that are asked at once
INFO_TIMEOUT_S = 3.0
ASSET_TURN_S = 10.0  # that a peer has for a file before the next is asked for it too
MAX_SHELVES = 8  # peers that are asked for one file

Claim = tuple[int, int, int, frozenset[int], frozenset[AssetRef]]


class Asker(Protocol):
    """The part of ``client.links.Links`` that is used."""

    async def info(self, peer: PeerInfo, timeout_s: float) -> Info: ...
    async def asset(self, peer: PeerInfo, ref: AssetRef) -> bytes: ...


async def learn(
    scout: Scout, asker: Asker, store: AssetStore, wanted_profile: str | None, wait: Callable[[], Awaitable[bool]],
    clock: Clock,
) -> Served:  # fmt: skip
    """Ask peers, nearest first, until everything is known. ``wait`` returns False when waiting is over.

    Raises NoRoute while nobody serves the model, SwarmError with the last trouble when nobody who does would tell,
    and UsageError or ModelError where that trouble is not the swarm's.
    """
    while True:
        seen = scout.view
        profile = choose_profile(seen, wanted_profile)
        peers = sorted(seen.usable(profile), key=lambda p: (scout.rtt_s(p), p.peer_id))
        last: ShoalError | OSError | None = None
        for first in range(0, len(peers), JURY):
            heard, trouble = await _hear(asker, peers[first : first + JURY])
            last = trouble or last
            for witnesses in ranked(heard):
                info = witnesses[0][1]
                near = [peer for peer, _ in witnesses]
                shelves = Shelves(asker, [*near, *(peer for peer in peers if peer not in near)][:MAX_SHELVES], clock)
                try:
                    directory = await store.collect(info.assets, shelves.fetch)
                    codec = await asyncio.to_thread(Codec, directory)
                except (ShoalError, OSError) as error:
                    last = error
                    continue
                return Served(
                    model=seen.model, profile=profile, hidden_size=info.hidden_size, vocab_size=info.vocab_size,
                    max_positions=info.max_positions, eos_token_ids=info.eos_token_ids,
                    codec=codec, defaults=generation_defaults(directory),
                )  # fmt: skip
        if not await wait():
            if last is None:
                raise NoRoute(f"nobody serves {seen.model.name} in profile {profile} now", (seen.span,))
            if isinstance(last, UsageError | ModelError):
                raise last
            raise SwarmError(f"none of {len(peers)} peers tells what {seen.model.name} is; the last one: {last}")


def ranked(heard: Sequence[tuple[PeerInfo, Info]]) -> list[list[tuple[PeerInfo, Info]]]:
    """Those who say the same, together: the most first, and of as many the nearest first, as ``heard`` has them."""
    said: dict[Claim, list[tuple[PeerInfo, Info]]] = {}
    for peer, info in heard:
        said.setdefault(_claim(info), []).append((peer, info))
    return sorted(said.values(), key=len, reverse=True)  # stable


def _claim(info: Info) -> Claim:
    assets = frozenset(ref for ref in info.assets if ref.name in ASSET_NAMES)
    return info.hidden_size, info.vocab_size, info.max_positions, frozenset(info.eos_token_ids), assets


async def _hear(
    asker: Asker, jury: Sequence[PeerInfo]
) -> tuple[list[tuple[PeerInfo, Info]], ShoalError | OSError | None]:
    """What each of ``jury`` says, all asked at once; and why one of them said nothing."""
    trouble: ShoalError | OSError | None = None

    async def ask(peer: PeerInfo) -> tuple[PeerInfo, Info] | None:
        nonlocal trouble
        try:
            return peer, await asker.info(peer, INFO_TIMEOUT_S)
        except (ShoalError, OSError) as error:
            trouble = error
            return None

    answers = await asyncio.gather(*(ask(peer) for peer in jury))
    return [answer for answer in answers if answer is not None], trouble


class Shelves:
    """Peers that may hold a model's files. Who gave the last file is asked first for the next."""

    def __init__(self, asker: Asker, peers: Sequence[PeerInfo], clock: Clock):
        self._asker, self._peers, self._clock = asker, list(peers), clock

    async def fetch(self, ref: AssetRef) -> bytes:
        """The file, from the first peer that has it whole. Raises the last trouble when nobody has."""
        waiting, asked = list(self._peers), dict[asyncio.Task[bytes], PeerInfo]()
        last: ShoalError | OSError = BadRequest(f"nobody is there to ask for {ref.name}")
        try:
            while waiting or asked:
                if waiting:
                    peer = waiting.pop(0)
                    asked[asyncio.create_task(_whole(self._asker, peer, ref))] = peer
                turn = asyncio.create_task(self._clock.sleep(ASSET_TURN_S))
                try:
                    await asyncio.wait({*asked, turn}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    turn.cancel()
                for task in [task for task in asked if task.done()]:
                    peer = asked.pop(task)
                    try:
                        data = task.result()
                    except (ShoalError, OSError) as error:
                        last = error
                        continue
                    self._peers.remove(peer)
                    self._peers.insert(0, peer)
                    return data
            raise last
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)


async def _whole(asker: Asker, peer: PeerInfo, ref: AssetRef) -> bytes:
    data = await asker.asset(peer, ref)
    if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
        raise BadRequest(f"{peer} gave other bytes for {ref.name} than its digest promised")
    return data
