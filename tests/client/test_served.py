"""Which model and Profile is meant, and how much fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from client.sampling import read_options
from client.served import Served, choose_profile, find_model, largest_budget
from client.text import Codec
from swarm.errors import NoRoute, SwarmError, SwarmUnreachable, UsageError
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.view import SwarmView
from tests.support.hash_engine import MODEL, hash_peer

OTHER = ModelRef("other", "cd" * 16, 4)


def view(*peers: PeerInfo) -> SwarmView:
    return SwarmView.of(MODEL, peers, 0.0)


def peer(number: int, start: int, end: int, **changes: object) -> PeerInfo:
    return replace(hash_peer(number, start, end), **changes)  # type: ignore[arg-type]


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
        infos = [
            replace(
                hash_peer(n, 0, 4), model=each, state=PeerState.READY if each in self.served else PeerState.DRAINING
            )
            for n, each in enumerate(dict.fromkeys([*self.announced, *self.served]), 1)
        ]
        return SwarmView.of(model, infos, 0.0)


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


async def test_one_model_under_two_names_is_one_and_found_by_either():
    alias = replace(MODEL, name="org/hashes")
    both = Announced(MODEL, alias, served=[MODEL, alias])
    assert (await found(both)).fingerprint == MODEL.fingerprint
    assert await found(both, MODEL.fingerprint) == MODEL
    assert await found(both, "hashes") == MODEL and await found(both, "org/hashes") == alias
    assert await found(Announced(MODEL, alias, OTHER, served=[alias]), "org/hashes") == alias
    assert await found(Announced(MODEL, alias, OTHER, served=[alias])) == alias, "the name that is in use"


async def test_a_liar_about_the_number_of_blocks_makes_no_second_model():
    liar = replace(MODEL, num_blocks=4)
    twin = replace(MODEL, name="twin")
    assert await found(Announced(liar, MODEL, twin, served=[liar, MODEL, twin]), MODEL.fingerprint) == MODEL


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


def test_tokens_that_nobody_can_repeat_have_to_be_asked_for():
    exact, rough = peer(1, 0, 3), peer(2, 0, 6, profile="c8-approx")
    assert choose_profile(view(exact, rough), None) == "c8"
    assert choose_profile(view(exact, rough), "c8-approx") == "c8-approx"
    assert largest_budget(view(exact, rough), "c8") is None
    assert largest_budget(view(exact, rough), "c8-approx") is not None


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
