"""Which model and Profile is meant, how much fits, and learning it from peers that may not answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from client.assets import AssetStore
from client.sampling import read_options
from client.served import Served, choose_profile, find_model, largest_budget, learn
from client.text import Codec
from proto.messages import AssetRef, Info
from swarm.errors import DeadLink, NoRoute, SwarmError, SwarmUnreachable, UsageError
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.view import SwarmView
from tests.client.fakes import MODEL, WALL, FakePeer, FakeSwarm
from tests.client.words import files

OTHER = ModelRef("other", "cd" * 16, 4)


def view(*peers: PeerInfo) -> SwarmView:
    return SwarmView.of(MODEL, peers, WALL)


def peer(number: int, start: int, end: int, **changes: object) -> PeerInfo:
    return replace(FakePeer(number, start, end).info, **changes)  # type: ignore[arg-type]


# Which.


class Announced:
    """A directory of models, of which only some are still served. Counts its looks; ``trouble`` is raised once."""

    def __init__(self, *models: ModelRef, served: Sequence[ModelRef] = ()):
        self.announced, self.served, self.looks = models, list(served), 0
        self.trouble: SwarmError | None = None

    async def models(self) -> tuple[ModelRef, ...]:
        self.looks += 1
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        return self.announced

    async def view(self, model: ModelRef) -> SwarmView:
        state = PeerState.READY if model in self.served else PeerState.DRAINING
        info = replace(FakePeer(1, 0, 4).info, model=model, state=state)
        return SwarmView.of(model, [info], WALL)


async def found(directory: Announced, wanted: str | None = None, tries: int = 0) -> ModelRef:
    async def wait() -> bool:
        return directory.looks <= tries

    return await find_model(directory, wanted, wait)  # type: ignore[arg-type]


async def test_the_only_model_needs_no_name():
    assert await found(Announced(MODEL, served=[MODEL])) == MODEL


async def test_of_several_models_one_must_be_named():
    both = Announced(MODEL, OTHER, served=[MODEL, OTHER])
    with pytest.raises(UsageError, match=rf"2 models.*hashes \({MODEL.fingerprint}\), other"):
        await found(both)
    assert await found(both, "other") == OTHER
    assert await found(both, MODEL.fingerprint) == MODEL


async def test_two_models_of_one_name_are_told_apart_by_fingerprint():
    twin = replace(MODEL, fingerprint="ef" * 16)
    with pytest.raises(UsageError, match="2 models"):
        await found(Announced(MODEL, twin, served=[MODEL, twin]), "hashes")


async def test_a_model_that_is_not_served_is_told_with_those_that_are():
    with pytest.raises(UsageError, match="does not serve 'llama'; it serves hashes"):
        await found(Announced(MODEL, served=[MODEL]), "llama")


async def test_a_model_whose_last_peer_has_left_is_none_though_it_is_still_announced():
    twin = replace(MODEL, fingerprint="ef" * 16)
    assert await found(Announced(MODEL, twin, OTHER, served=[twin])) == twin
    assert await found(Announced(MODEL, twin, served=[twin]), "hashes") == twin


async def test_a_model_that_nobody_serves_is_waited_for_and_then_told():
    late = Announced(MODEL)

    async def arrive() -> bool:
        late.served.append(MODEL)
        return True

    assert await find_model(late, None, arrive) == MODEL  # type: ignore[arg-type]
    with pytest.raises(NoRoute, match=r"nobody serves hashes .* now") as caught:
        await found(Announced(MODEL))
    assert [str(span) for span in caught.value.missing] == ["0:6"]
    with pytest.raises(SwarmError, match=r"nobody serves any of these models now: hashes .*, other"):
        await found(Announced(MODEL, OTHER))
    with pytest.raises(SwarmError, match="nobody in this swarm serves a model"):
        await found(Announced(), "hashes", tries=2)


async def test_one_look_that_fails_is_no_reason_to_give_up_and_the_last_one_is():
    directory = Announced(MODEL, served=[MODEL])
    directory.trouble = SwarmUnreachable("hiccup")
    assert await found(directory, tries=1) == MODEL
    directory.trouble = SwarmUnreachable("hiccup")
    with pytest.raises(SwarmUnreachable, match="hiccup"):
        await found(directory)


def test_c8_is_taken_where_it_covers_the_model_else_what_does():
    half, rest, plain = peer(1, 0, 3), peer(2, 3, 6), peer(3, 0, 6, profile="f32")
    assert choose_profile(view(half, rest, plain), None) == "c8"
    assert choose_profile(view(half, plain), None) == "f32"
    assert choose_profile(view(half), None) == "c8"
    assert choose_profile(view(half, rest), "f32") == "f32"


# How much.


def test_the_largest_budget_is_that_of_the_tightest_block():
    assert largest_budget(view(peer(1, 0, 4, kv_tokens=100), peer(2, 2, 6, kv_tokens=300)), "c8") == 100
    assert largest_budget(view(peer(1, 0, 4), peer(2, 5, 6)), "c8") is None
    assert largest_budget(view(peer(1, 0, 6, state=PeerState.DRAINING)), "c8") is None


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(MODEL, "c8", 4, 1000, 256, (999,), Codec(tmp_path), {})


def test_room_is_what_was_asked_for_or_what_fits(served: Served):
    seen = view(peer(1, 0, 6, kv_tokens=100))
    assert served.room([1] * 10, read_options({"max_new_tokens": 90}), seen, 50) == 90
    assert served.room([1] * 10, read_options({}), seen, 50) == 50
    assert served.room([1] * 70, read_options({}), seen, 50) == 30
    assert served.room([1] * 250, read_options({}), view(), 50) == 6


@pytest.mark.parametrize(
    ("prompt", "new", "complaint"),
    [
        (0, None, "prompt is empty"),
        (256, None, "256 tokens is more than the model's 256 positions"),
        (10, 247, "10 tokens and 247 new ones is more than the model's 256"),
        (10, 91, "largest KV budget is 100 tokens"),
        (100, None, "100 tokens and a new token are more than any route"),
    ],
)
def test_what_cannot_fit_is_told_with_both_numbers(served: Served, prompt: int, new: int | None, complaint: str):
    with pytest.raises(UsageError, match=complaint):
        served.room([1] * prompt, read_options({"max_new_tokens": new}), view(peer(1, 0, 6, kv_tokens=100)), 50)


# Learning it.


class Asked:
    """Peers as seen by questions: those in ``silent`` do not answer."""

    def __init__(self, *silent: int):
        self.silent = {f"{n:032x}" for n in silent}
        self.files = files()
        self.refs = tuple(AssetRef(n, hashlib.sha256(d).hexdigest(), len(d)) for n, d in self.files.items())
        self.asked: list[str] = []

    async def info(self, peer: PeerInfo, timeout_s: float) -> Info:
        self.asked.append(peer.peer_id)
        if peer.peer_id in self.silent:
            raise DeadLink("gone")
        return Info(peer, self.refs, 4, 1000, 256, (999,))

    async def asset(self, peer: PeerInfo, ref: AssetRef) -> bytes:
        return self.files[ref.name]


async def never() -> bool:
    return False


async def test_everything_is_learnt_from_the_first_peer_that_answers(tmp_path: Path):
    swarm, asked = FakeSwarm(FakePeer(1, 0, 3), FakePeer(2, 3, 6)), Asked(1)
    served = await learn(swarm, asked, AssetStore(tmp_path, 1 << 20), None, never)
    assert len(asked.asked) == 2
    assert (served.model, served.profile, served.vocab_size, served.eos_token_ids) == (MODEL, "c8", 1000, (999,))
    assert served.defaults["top_k"] == 20
    assert served.codec.decode(served.codec.encode("abc")) == "abc"


async def test_when_nobody_answers_the_last_reason_is_told(tmp_path: Path):
    swarm = FakeSwarm(FakePeer(1, 0, 6), FakePeer(2, 0, 6))
    with pytest.raises(SwarmError, match=r"none of 2 peers .* gone"):
        await learn(swarm, Asked(1, 2), AssetStore(tmp_path, 1 << 20), None, never)


async def test_when_nobody_is_there_that_is_told_and_newcomers_are_waited_for(tmp_path: Path):
    swarm = FakeSwarm(FakePeer(1, 0, 6))
    swarm.hidden = {f"{1:032x}"}
    with pytest.raises(NoRoute, match="nobody serves hashes"):
        await learn(swarm, Asked(), AssetStore(tmp_path, 1 << 20), None, never)

    async def arrive() -> bool:
        swarm.hidden.clear()
        return True

    assert (await learn(swarm, Asked(), AssetStore(tmp_path, 1 << 20), None, arrive)).model == MODEL
