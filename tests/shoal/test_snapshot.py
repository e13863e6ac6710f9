"""A picture from anywhere: read as values, whatever nonsense is in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.glance import Scene, draw
from shoal.snapshot import MAX_PEERS, read_past, read_snapshot
from swarm.errors import BadRequest

PEER: dict[str, Any] = {
    "id": "a" * 32, "name": "kitchen", "model": "b" * 32, "span": "0:12", "state": "ready", "profile": "c8",
    "version": "0.1.0", "tokens_per_s": 17.2, "sessions": 1, "pages": {"used": 3, "total": 12}, "queue_tokens": 0,
    "block_ms": 0.8, "age_s": 3.2, "expires_in_s": 40.1, "rtt_ms": 0.5, "reachable": True, "address": None,
}  # fmt: skip
MODEL: dict[str, Any] = {
    "name": "sample", "fingerprint": "b" * 32, "num_blocks": 4, "state": "broken", "coverage": [2, 1, 0, 3],
    "weakest": {"blocks": "2:3", "replicas": 0, "tokens_per_s": None}, "single": ["1:2"], "gaps": ["2:3"],
    "tokens_per_s": 35.1, "sessions": 3, "peers": 4, "join": {"command": "shoal serve", "blocks": "2:3", "why": "gap"},
}  # fmt: skip
BODY: dict[str, Any] = {
    "at": 1763667000.1, "version": "0.1.0", "ttl_s": 45, "models": [MODEL], "peers": [PEER], "links": [],
    "totals": {"peers": 4, "ready": 4, "sessions": 3, "tokens_per_s": 35.1},
}  # fmt: skip

FIELDS = st.sampled_from([*PEER, *MODEL, *BODY])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=6),
    max_leaves=30,
)  # fmt: skip


def test_what_is_there_is_read():
    snapshot = read_snapshot(BODY)
    (model,), (peer,) = snapshot.models, snapshot.peers
    assert (model.name, model.coverage, model.gaps, model.command) == ("sample", (2, 1, 0, 3), ("2:3",), "shoal serve")
    assert (peer.name, peer.span, peer.pages_used, peer.reachable) == ("kitchen", (0, 12), 3, True)
    assert (snapshot.ready, snapshot.sessions, snapshot.tokens_per_s) == (4, 3, 35.1)


@pytest.mark.parametrize("body", [None, [], "x", 7, {}, {"models": []}, {"models": {}, "peers": []}])
def test_what_is_no_picture_is_refused(body: Any):
    with pytest.raises(BadRequest, match="no picture"):
        read_snapshot(body)


def test_what_is_missing_or_of_another_kind_is_a_plain_default():
    odd = {"models": [7, {"coverage": "x"}], "peers": [None, {"span": "a:b", "pages": [], "tokens_per_s": "fast"}]}
    snapshot = read_snapshot(odd)
    assert [model.coverage for model in snapshot.models] == [(), ()]
    assert [(peer.span, peer.pages, peer.tokens_per_s, peer.reachable) for peer in snapshot.peers] == [
        ((0, 0), 0, None, None)
    ] * 2


def test_names_are_plain_and_lists_are_cut():
    loud = {**PEER, "name": "\x1b[2Jan\u202etic"}
    snapshot = read_snapshot({**BODY, "peers": [loud] * (MAX_PEERS + 1)})
    assert len(snapshot.peers) == MAX_PEERS and snapshot.peers[0].name == "[2Jantic"


def test_the_past_is_a_list_of_speeds():
    assert read_past({"step_s": 10, "points": [{"tokens_per_s": 1}, {"tokens_per_s": None}, 7]}) == (1.0, 0.0, 0.0)
    assert read_past([]) == read_past({"points": 7}) == ()


@given(st.lists(JSON, max_size=3), st.lists(JSON, max_size=3), JSON, st.integers(1, 120), st.integers(1, 40))
def test_no_json_makes_it_fail(models: list[Any], peers: list[Any], totals: Any, width: int, height: int):
    body = {
        "models": [{**MODEL, **one} if isinstance(one, dict) else one for one in models],
        "peers": peers,
        "totals": totals,
    }
    draw(Scene(read_snapshot(body), "somewhere"), width, height)
