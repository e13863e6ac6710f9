"""Learning what a model is from peers that do not answer, answer slowly, or lie."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from client.assets import AssetStore
from client.learn import ASSET_TURN_S, learn
from client.served import Served
from proto.messages import AssetRef, Info
from swarm.clock import VirtualClock
from swarm.errors import BadRequest, CorruptCheckpoint, DeadLink, NoRoute, SwarmError, UsageError
from swarm.peerinfo import PeerInfo
from tests.client.scouting import Announced
from tests.client.words import files
from tests.support.hash_engine import MODEL, hash_peer


def refs(shelf: dict[str, bytes]) -> tuple[AssetRef, ...]:
    return tuple(AssetRef(n, hashlib.sha256(d).hexdigest(), len(d)) for n, d in shelf.items())


class Asked:
    """Peers as seen by questions. What is set for a peer's number replaces its honest answers."""

    def __init__(self, **trouble: BaseException):
        self.trouble = {f"{int(number.strip('_')):032x}": error for number, error in trouble.items()}
        self.sizes: dict[str, tuple[int, int, int, tuple[int, ...]]] = {}
        self.shelves: dict[str, dict[str, bytes]] = {}
        self.dripping: set[str] = set()
        self.asked: list[str] = []
        self.fetched: list[tuple[int, str]] = []
        self.begun = asyncio.Event()  # to be asked for a file
        self.at_once = self.most_at_once = 0

    async def info(self, peer: PeerInfo, timeout_s: float) -> Info:
        self.asked.append(peer.peer_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if peer.peer_id in self.trouble:
            raise self.trouble[peer.peer_id]
        sizes = self.sizes.get(peer.peer_id, (4, 1000, 256, (999,)))
        return Info(peer, refs(self.shelves.get(peer.peer_id, files())), *sizes)

    async def asset(self, peer: PeerInfo, ref: AssetRef) -> bytes:
        self.fetched.append((int(peer.peer_id, 16), ref.name))
        self.begun.set()
        if peer.peer_id in self.dripping:
            await asyncio.Event().wait()
        for name, data in self.shelves.get(peer.peer_id, files()).items():
            if (name, hashlib.sha256(data).hexdigest()) == (ref.name, ref.sha256):
                return data
        raise BadRequest("no such asset")


def name(number: int) -> str:
    return f"{number:032x}"


def swarm_of(count: int) -> Announced:
    """All equally near, so that the first is asked first."""
    return Announced(*(hash_peer(n, 0, 6) for n in range(1, count + 1)))


async def never() -> bool:
    return False


async def learnt(swarm: Announced, asked: Asked, cache: Path, clock: VirtualClock | None = None) -> Served:
    return await learn(swarm, asked, AssetStore(cache, 1 << 20), None, never, clock or VirtualClock())


async def test_everything_is_learnt_though_the_nearest_does_not_answer(tmp_path: Path):
    swarm, asked = Announced(hash_peer(1, 0, 3), hash_peer(2, 3, 6)), Asked(_1=DeadLink("gone"))
    served = await learnt(swarm, asked, tmp_path)
    assert len(asked.asked) == 2
    assert (served.model, served.profile, served.vocab_size, served.eos_token_ids) == (MODEL, "c8", 1000, (999,))
    assert served.defaults["top_k"] == 20
    assert served.codec.decode(served.codec.encode("abc")) == "abc"


@pytest.mark.parametrize("error", [UsageError("?"), OSError("no route to host"), SwarmError("?"), BadRequest("?")])
async def test_whatever_goes_wrong_at_one_peer_the_next_is_asked(tmp_path: Path, error: Exception):
    assert (await learnt(swarm_of(2), Asked(_1=error), tmp_path)).vocab_size == 1000


async def test_three_are_asked_at_once_and_the_others_only_when_those_cannot_tell(tmp_path: Path):
    asked = Asked()
    await learnt(swarm_of(9), asked, tmp_path)
    assert asked.asked == [name(n) for n in (1, 2, 3)] and asked.most_at_once == 3
    silent = Asked(_1=DeadLink("gone"), _2=DeadLink("gone"), _3=DeadLink("gone"))
    await learnt(swarm_of(9), silent, tmp_path)
    assert silent.asked == [name(n) for n in (1, 2, 3, 4, 5, 6)]


async def test_files_that_make_no_sense_are_one_peers_trouble(tmp_path: Path):
    asked = Asked()
    asked.shelves[name(1)] = {**files(), "tokenizer.json": b"\xff not json"}
    served = await learnt(swarm_of(2), asked, tmp_path)
    assert served.codec.decode(served.codec.encode("abc")) == "abc"


async def test_where_all_files_make_no_sense_that_is_what_is_told(tmp_path: Path):
    asked = Asked()
    asked.shelves = {name(n): {"tokenizer.json": b"{"} for n in (1, 2)}
    with pytest.raises(CorruptCheckpoint, match=r"tokenizer\.json cannot be read"):
        await learnt(swarm_of(2), asked, tmp_path)


@pytest.mark.parametrize(
    "lie", [(8, 1000, 256, (999,)), (4, 7, 256, (1,)), (4, 1000, 1, (999,)), (4, 1000, 256, (0, 1, 2))]
)
async def test_two_outvote_the_nearest(tmp_path: Path, lie: tuple[int, int, int, tuple[int, ...]]):
    asked = Asked()
    asked.sizes[name(1)] = lie
    served = await learnt(swarm_of(3), asked, tmp_path)
    said = (served.hidden_size, served.vocab_size, served.max_positions, served.eos_token_ids)
    assert said == (4, 1000, 256, (999,))


async def test_two_outvote_the_nearest_about_the_files_too(tmp_path: Path):
    asked = Asked()
    asked.shelves[name(1)] = {**files(), "generation_config.json": b'{"top_k": 1}'}
    assert (await learnt(swarm_of(3), asked, tmp_path)).defaults["top_k"] == 20


async def test_of_as_many_the_nearest_is_believed(tmp_path: Path):
    asked = Asked()
    asked.sizes[name(1)] = (4, 500, 256, (1,))
    assert (await learnt(swarm_of(2), asked, tmp_path)).vocab_size == 500


async def test_a_file_that_drips_costs_one_turn_and_then_the_next_peer_is_asked(tmp_path: Path):
    asked, clock = Asked(), VirtualClock()
    asked.dripping.add(name(1))
    learning = asyncio.create_task(learnt(swarm_of(3), asked, tmp_path, clock))
    await asked.begun.wait()
    clock.advance(ASSET_TURN_S - 0.1)
    assert {peer for peer, _ in asked.fetched} == {1}
    clock.advance(0.1)
    await learning
    assert [peer for peer, _ in asked.fetched] == [1, 2, 2, 2], "who gave one file is asked first for the next"


async def test_who_is_slow_and_alone_is_waited_for(tmp_path: Path):
    asked, clock, slow = Asked(), VirtualClock(), asyncio.Event()
    give = asked.asset

    async def late(peer: PeerInfo, ref: AssetRef) -> bytes:
        data = await give(peer, ref)
        await slow.wait()
        return data

    asked.asset = late  # type: ignore[method-assign]
    learning = asyncio.create_task(learnt(swarm_of(1), asked, tmp_path, clock))
    await asked.begun.wait()
    for _ in range(4):
        clock.advance(ASSET_TURN_S)
        await asyncio.sleep(0)
    slow.set()
    await learning
    assert len(asked.fetched) == 3


async def test_when_nobody_answers_the_last_reason_is_told(tmp_path: Path):
    with pytest.raises(SwarmError, match=r"none of 2 peers .* gone"):
        await learnt(swarm_of(2), Asked(_1=DeadLink("gone"), _2=DeadLink("gone")), tmp_path)


async def test_when_nobody_is_there_that_is_told_and_newcomers_are_waited_for(tmp_path: Path):
    swarm = swarm_of(1)
    swarm.hidden = {name(1)}
    with pytest.raises(NoRoute, match="nobody serves hashes"):
        await learnt(swarm, Asked(), tmp_path)

    async def arrive() -> bool:
        swarm.hidden.clear()
        return True

    store = AssetStore(tmp_path, 1 << 20)
    assert (await learn(swarm, Asked(), store, None, arrive, VirtualClock())).model == MODEL
