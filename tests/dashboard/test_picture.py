from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.picture import Hints, point, substance, swarm_picture
from dashboard.sightings import Sighting, Standing
from swarm.peerinfo import Flow
from tests.dashboard.cast import HINTS, SECRET_ADDRESS, seen, stats
from tests.support.swarm import NOW, a_model


def only_model(*sightings: Sighting) -> dict[str, Any]:
    (model,) = swarm_picture(sightings, NOW, HINTS)["models"]
    return model


def test_an_empty_swarm_has_a_picture():
    picture = swarm_picture((), NOW, Hints("0.1.0"))
    assert picture["models"] == picture["peers"] == picture["links"] == []
    assert picture["totals"] == {"peers": 0, "ready": 0, "sessions": 0, "tokens_per_s": 0}
    assert (picture["at"], picture["ttl_s"], picture["try"]) == (NOW, 45.0, None)
    assert point(picture) == {"at": NOW, "tokens_per_s": 0, "sessions": 0, "peers": 0, "min_replicas": 0}


@pytest.mark.parametrize(
    ("spans", "state", "single", "gaps"),
    [
        (["0:24", "0:24"], "healthy", [], []),
        (["0:12", "12:24"], "fragile", ["0:12", "12:24"], []),
        (["0:12", "12:24", "6:24"], "fragile", ["0:6"], []),
        (["0:12", "0:12"], "broken", [], ["12:24"]),
        (["4:8", "10:12"], "broken", ["4:8", "10:12"], ["0:4", "8:10", "12:24"]),
    ],
)
def test_a_model_is_as_well_as_its_worst_block(spans: list[str], state: str, single: list[str], gaps: list[str]):
    model = only_model(*(seen(number, span) for number, span in enumerate(spans)))
    assert (model["state"], model["single"], model["gaps"]) == (state, single, gaps)
    counts = [sum(int(s.split(":")[0]) <= block < int(s.split(":")[1]) for s in spans) for block in range(24)]
    assert model["coverage"] == counts


def test_only_peers_that_are_ready_and_answer_cover_anything():
    model = only_model(
        seen(1, "0:24"), seen(2, reachable=False), seen(3, reachable=None), seen(4, standing=Standing.JOINING),
        seen(5, standing=Standing.DRAINING), seen(6, profile="f32"),
    )  # fmt: skip
    assert model["coverage"] == [1] * 24 and model["peers"] == 6
    gone = swarm_picture([seen(1, standing=Standing.GONE)], NOW, HINTS)
    assert gone["models"] == [] and gone["totals"]["peers"] == 0
    assert [row["state"] for row in gone["peers"]] == ["gone"]


def test_coverage_is_that_of_the_profile_that_clients_take():
    model = only_model(seen(1, "0:12", profile="c8"), seen(2, "0:12", profile="f32"), seen(3, "12:24", profile="f32"))
    assert model["coverage"] == [1] * 24 and model["state"] == "fragile"
    assert "--profile f32" in model["join"]["command"]


def test_the_weakest_has_fewest_replicas_then_least_capacity():
    fast, slow = seen(1, "0:12", block_s=0.001), seen(2, "12:24", block_s=0.004)
    assert only_model(fast, slow)["weakest"] == {"blocks": "12:24", "replicas": 1, "tokens_per_s": 20.8}
    more = only_model(fast, slow, seen(3, "12:24", block_s=0.004))
    assert more["weakest"]["blocks"] == "0:12"
    assert only_model(fast)["weakest"] == {"blocks": "12:24", "replicas": 0, "tokens_per_s": 0.0}
    assert only_model(seen(1, block_s=0.0))["weakest"]["tokens_per_s"] is None


def test_tokens_and_sessions_are_counted_once_however_many_peers_they_pass():
    peers = [seen(n, span, tokens_per_s=20.0, sessions=3) for n, span in enumerate(["0:8", "8:16", "16:24"])]
    model = only_model(*peers)
    assert (model["tokens_per_s"], model["sessions"]) == (20.0, 3)
    split = [
        *peers[:2],
        seen(7, "16:24", tokens_per_s=5.0, sessions=1),
        seen(8, "16:24", tokens_per_s=15.0, sessions=2),
    ]
    model = only_model(*split)
    assert (model["tokens_per_s"], model["sessions"]) == (20.0, 3)
    dead = only_model(peers[0], peers[1], seen(9, "16:24", tokens_per_s=20.0, sessions=3, reachable=False))
    assert (dead["tokens_per_s"], dead["sessions"]) == (20.0, 3), "who still holds Seats is believed"


def test_a_peer_that_does_not_say_hides_no_others_tokens():
    model = only_model(seen(1, "0:12", tokens_per_s=None, stats=None), seen(2, "12:24", tokens_per_s=9.0))
    assert model["tokens_per_s"] == 9.0


@pytest.mark.parametrize(
    ("peers", "blocks", "why"),
    [
        ([("0:12", Standing.READY)], "12:24", "nobody serves blocks 12:24"),
        ([("0:4", Standing.READY), ("8:20", Standing.READY)], "4:8", "nobody serves blocks 4:8"),
        ([("0:24", Standing.READY), ("0:20", Standing.READY)], "20:24", "blocks 20:24 have one replica"),
        ([("0:12", Standing.READY), ("12:24", Standing.JOINING)], "0:24", "blocks 0:24 have one replica"),
        ([("0:24", Standing.READY)] * 3 + [("0:4", Standing.READY)], "4:24", "blocks 4:24 have 3 replicas"),
        ([("0:24", Standing.READY)] * 2, "0:24", "all blocks have 2 replicas"),
    ],
)
def test_joining_is_where_it_is_needed_most(peers: list[tuple[str, Standing]], blocks: str, why: str):
    model = only_model(
        *(
            seen(n, span, standing=standing, reachable=None if standing is Standing.JOINING else True)
            for n, (span, standing) in enumerate(peers)
        )
    )
    assert model["join"]["blocks"] == blocks and model["join"]["why"].startswith(why)
    assert f"--blocks {blocks} " in model["join"]["command"] and model["join"]["complete"] is False


def test_a_peer_row_says_what_the_contract_says():
    sighting = seen(
        1,
        "0:12",
        name="kitchen",
        rtt_s=0.0005,
        stats=stats(pages=100, used=7),
        block_s=0.0008,
        queue_tokens=5,
        sessions=2,
    )
    (row,) = swarm_picture([sighting], NOW, HINTS)["peers"]
    assert row == {
        "id": f"{1:032x}", "name": "kitchen", "model": "a" * 32, "span": "0:12", "state": "ready", "profile": "c8",
        "version": "0.1.0", "tokens_per_s": 10.0, "sessions": 2, "pages": {"used": 7, "total": 100}, "queue_tokens": 5,
        "block_ms": 0.8, "age_s": 5.0, "expires_in_s": 40.0, "rtt_ms": 0.5, "reachable": True, "address": None,
    }  # fmt: skip


def test_an_address_is_shown_only_where_its_owner_agreed():
    shy, open_ = seen(1), seen(2, public_address=True)
    assert SECRET_ADDRESS not in json.dumps(swarm_picture([shy], NOW, HINTS))
    rows = swarm_picture([shy, open_], NOW, HINTS)["peers"]
    assert [row["address"] for row in rows] == [None, SECRET_ADDRESS]


def test_an_older_peer_has_pages_by_its_tokens():
    (row,) = swarm_picture([seen(1, stats=None, kv_tokens=640, kv_tokens_free=320)], NOW, HINTS)["peers"]
    assert row["pages"] == {"used": 10, "total": 20}
    (row,) = swarm_picture([seen(1, stats=None, kv_tokens=32, kv_tokens_free=2**60)], NOW, HINTS)["peers"]
    assert row["pages"] == {"used": 0, "total": 1}


def test_links_lead_to_peers_that_are_there_and_to_clients():
    there, stranger = f"{2:032x}", "f" * 32
    flows = (Flow(there, 2, 0.0004), Flow(None, 1), Flow(stranger, 9), Flow(f"{1:032x}", 5))
    picture = swarm_picture([seen(1, "0:12", stats=stats(flows=flows)), seen(2, "12:24")], NOW, HINTS)
    me = f"{1:032x}"
    assert picture["links"] == [
        {"from": me, "to": there, "rtt_ms": 0.4, "sessions": 2},
        {"from": me, "to": "clients", "rtt_ms": None, "sessions": 1},
    ]
    silent = swarm_picture([seen(1, "0:12", stats=stats(flows=flows), reachable=False)], NOW, HINTS)
    assert silent["links"] == []


def test_a_liar_does_not_fill_the_totals():
    picture = swarm_picture([seen(1, sessions=2**32 - 1, queue_tokens=2**63)], NOW, HINTS)
    assert picture["totals"]["sessions"] == 4096
    json.dumps(picture, allow_nan=False)


def test_a_model_is_called_what_most_of_those_who_serve_call_it():
    named = [seen(1, model=a_model(name="good")), seen(2, model=a_model(name="good"))]
    liars = [seen(n, model=a_model(name="evil"), reachable=False) for n in range(3, 9)]
    other = seen(20, model=a_model(num_blocks=30, name="good"), span="0:30")
    model = only_model(*named, *liars, other)
    assert (model["name"], model["num_blocks"], model["coverage"]) == ("good", 24, [2] * 24)


def test_what_passes_by_itself_is_no_news():
    before = swarm_picture([seen(1, rtt_s=0.001)], NOW, HINTS)
    after = swarm_picture([seen(1, rtt_s=0.002, record_expires_at=NOW + 30)], NOW + 1, HINTS)
    assert before != after and substance(before) == substance(after)
    for change in ({"sessions": 1}, {"standing": Standing.DRAINING}, {"tokens_per_s": 11.0}, {"reachable": False}):
        assert substance(swarm_picture([seen(1, **change)], NOW, HINTS)) != substance(before), change


spans = st.tuples(st.integers(0, 23), st.integers(1, 24)).filter(lambda s: s[0] < s[1]).map(lambda s: f"{s[0]}:{s[1]}")


@given(st.lists(st.tuples(spans, st.sampled_from(Standing), st.sampled_from([True, False, None])), max_size=8))
def test_any_swarm_has_a_picture_that_is_json(peers: list[tuple[str, Standing, bool | None]]):
    sightings = [seen(n, span, standing=how, reachable=there) for n, (span, how, there) in enumerate(peers)]
    picture = json.loads(json.dumps(swarm_picture(sightings, NOW, HINTS), allow_nan=False))
    for model in picture["models"]:
        assert (0 in model["coverage"]) == bool(model["gaps"]) == (model["state"] == "broken")
        assert (1 in model["coverage"]) == bool(model["single"])
        assert model["weakest"]["replicas"] == min(model["coverage"])
        covered = {b for s in model["gaps"] for b in range(*map(int, s.split(":")))}
        assert covered == {b for b, count in enumerate(model["coverage"]) if count == 0}
