"""What is drawn: words beside colours, the strip with its marks, what fits and what does not."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from shoal.glance import SORTS, Order, Scene, draw, sentence, spark, strip
from shoal.snapshot import Snapshot, read_snapshot

from .test_snapshot import BODY, MODEL, PEER


def peer(number: int, **changes: Any) -> dict[str, Any]:
    return {**PEER, "id": f"{number:032x}", "name": f"peer{number}", **changes}


def snapshot(*peers: dict[str, Any], **of_model: Any) -> Snapshot:
    return read_snapshot({**BODY, "models": [{**MODEL, **of_model}], "peers": list(peers) or [PEER]})


def text(scene: Scene, width: int = 100, height: int | None = None, order: Order | None = None) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None, highlight=False)
    console.print(draw(scene, width, height, order), crop=False)
    return file.getvalue()


HEALTHY = {"state": "healthy", "coverage": [2, 3, 2, 2], "single": [], "gaps": [], "weakest": None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "broken: nobody serves blocks 2:3"),
        ({"gaps": [], "state": "fragile"}, "fragile: one peer alone serves blocks 1:2"),
        (HEALTHY, "healthy: every block has at least 2 peers"),
        ({"gaps": [f"{n}:{n + 1}" for n in range(9)]}, "0:1, 1:2, 2:3, 3:4 and 5 more ranges"),
        ({"gaps": [], "single": [], "state": "asleep"}, "asleep"),
    ],
)
def test_the_state_is_said_in_words(changes: dict[str, Any], said: str):
    (model,) = snapshot(**changes).models
    assert said in sentence(model)


def test_the_strip_has_a_column_a_block_and_marks_the_weakest():
    (model,) = snapshot(num_blocks=4).models
    cells, scale = strip(model, 4)
    assert cells.plain == "21!3" and scale.plain == "  ▲"
    cells, scale = strip(model, 40)
    assert cells.plain == "2  1  !  3  " and scale.plain.startswith("      ▲▲▲")


def test_where_blocks_are_more_than_columns_a_column_is_the_worst_of_several():
    (model,) = snapshot(coverage=[9] * 50 + [0] + [9] * 29 + [30] * 20, weakest={"blocks": "50:51"}).models
    cells, scale = strip(model, 10)
    assert cells.plain == "99999!99++" and scale.plain == "     ▲"


def test_a_sparkline_has_its_width_and_nothing_is_flat():
    assert spark([0, 1, 2, 4, 8], 4) == "▂▃▅█"
    assert spark([0, 0], 10) == "▁▁" and spark([], 10) == "" and spark([1, 2], 0) == ""


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_it_keeps_to_the_width_of_a_live_terminal(width: int):
    shown = text(
        Scene(snapshot(peer(1), peer(2, name="厨房" * 15)), "somewhere" * 9, past=[1, 2, 3], past_s=30), width, 30
    )
    assert all(cell_len(line) <= width for line in shown.splitlines())
    assert "broken" in shown and "peer1" in shown


def test_on_paper_the_command_stays_one_line():
    command = "shoal serve --join " + "x" * 200
    shown = text(Scene(snapshot(join={"command": command}), "here"), 40)
    assert f"help: {command}" in shown.splitlines()


def test_a_wide_terminal_shows_where_a_peer_is_and_a_narrow_one_what_matters():
    wide, narrow = text(Scene(snapshot(), "x"), 140), text(Scene(snapshot(), "x"), 40)
    assert "version" in wide and "█" in wide and "version" not in narrow and "tok/s" in narrow


def test_peers_that_find_no_room_are_counted():
    shown = text(Scene(snapshot(*(peer(n) for n in range(1, 41))), "x"), 80, 20)
    assert len(shown.splitlines()) <= 20
    assert "and 3" in shown and "more" in shown


@pytest.mark.parametrize("by", SORTS)
def test_every_order_sorts_and_turns_round(by: str):
    peers = [
        peer(1, span="0:2", tokens_per_s=1, sessions=5, rtt_ms=None, age_s=1, pages={"used": 1, "total": 9}),
        peer(2, span="2:4", tokens_per_s=None, sessions=0, rtt_ms=1, age_s=2, reachable=False, pages={}),
        peer(3, span="1:4", tokens_per_s=9, sessions=1, rtt_ms=3, age_s=9, state="gone"),
    ]
    there = snapshot(*peers)
    lines = [text(Scene(there, "x"), 120, 30, Order(by, backwards)).splitlines() for backwards in (False, True)]
    rows = [[line.split()[0] for line in each if line.startswith("peer") and line[4].isdigit()] for each in lines]
    assert sorted(rows[0]) == ["peer1", "peer2", "peer3"] and rows[1] == rows[0][::-1]
    first = {"span": 1, "name": 1, "state": 3, "speed": 3, "sessions": 1, "pages": 3, "rtt": 2, "age": 3}
    assert rows[0][0] == f"peer{first[by]}"


def test_a_peer_that_does_not_answer_is_silent_and_one_that_left_is_gone():
    shown = text(Scene(snapshot(peer(1, reachable=False), peer(2, reachable=False, state="gone")), "x"))
    assert "silent" in shown and "gone" in shown


def test_a_lost_swarm_keeps_its_picture_and_says_how_old_it_is():
    lost = text(Scene(snapshot(), "x", age_s=33.0, trouble="the swarm does not answer any more"))
    assert "picture of 33 s ago" in lost and "does not answer" in lost and "broken" in lost
    assert "ago" not in text(Scene(snapshot(), "x", age_s=1.0))


def test_before_the_first_picture_and_without_models_it_says_so():
    assert "joining the swarm" in text(Scene(None, ""))
    assert "nobody serves a model" in text(Scene(replace(snapshot(), models=(), peers=()), "x"))


def test_markup_in_a_name_is_only_letters():
    assert "[red]x[/]" in text(Scene(snapshot(peer(1, name="[red]x[/]"), name="[bold]m"), "x"))
    assert "[bold]m" in text(Scene(snapshot(name="[bold]m"), "x"))
