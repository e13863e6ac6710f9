"""Answers that have to fit a schema, through real peers: the same text whatever happens, and it fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from client import Client, ClientConfig
from peer.local import LocalSwarm
from swarm.errors import BadGrammar

from .conftest import COMMON, PROMPT, Roster

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "size": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 2, "maxItems": 3},
    },
    "required": ["name", "size", "tags"],
    "additionalProperties": False,
}
WISHES: list[dict[str, Any]] = [
    {"json_schema": SCHEMA},
    {"json_schema": SCHEMA, "temperature": 1.0, "seed": 3},
    {"json_schema": SCHEMA, "temperature": 1.0, "seed": 5, "n": 2, "frequency_penalty": 0.5},
    {"logit_bias": {13: 4.0, 14: -100.0}, "min_tokens": 40, "temperature": 0.8, "seed": 1},
]


def answers(client: Client, wish: dict[str, Any]) -> list[tuple[str, str]]:
    first = client.generate(PROMPT, max_new_tokens=150, **wish)
    return [(each.text, each.finish_reason) for each in (first, *first.alternatives)]


@pytest.fixture(scope="module")
def truth(alone: Client) -> list[list[tuple[str, str]]]:
    return [answers(alone, wish) for wish in WISHES]


@pytest.fixture(scope="module")
def three() -> Iterator[Roster]:
    with LocalSwarm(*COMMON) as swarm:
        yield Roster(swarm, ["0:12", "12:24", "0:24"])


def test_what_ended_fits(truth: list[list[tuple[str, str]]]):
    texts = [text for each in truth[:3] for text, reason in each if reason == "stop"]
    assert len(texts) >= 3
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMA)


@pytest.mark.parametrize(
    "config", [{}, {"draft_tokens": 4}, {"shape": "star"}, {"shape": "chain", "draft_tokens": 3}, {"ends": "local"}],
    ids=str,
)  # fmt: skip
def test_neither_shape_nor_drafts_nor_where_the_head_is_changes_a_letter(
    three: Roster, truth: list[list[tuple[str, str]]], config: dict[str, Any]
):
    settings = ClientConfig(prefer=three.ids("0:12", "12:24"), **config)
    with Client(swarm=three.swarm.join, config=settings) as client:
        assert [answers(client, wish) for wish in WISHES] == truth


@pytest.mark.timeout(120)
@pytest.mark.parametrize("drafts", [0, 4])
@pytest.mark.parametrize("after", [1, 9])
def test_a_killed_last_hop_changes_no_letter(
    three: Roster, truth: list[list[tuple[str, str]]], drafts: int, after: int
):
    config = ClientConfig(prefer=three.ids("0:12", "12:24"), draft_tokens=drafts)
    try:
        with Client(swarm=three.swarm.join, config=config) as client:
            stream = client.stream(PROMPT, max_new_tokens=150, **WISHES[1])
            for _ in range(after):
                next(stream)
            three.peers["12:24"].kill()
            result = stream.finish()
        assert (result.text, result.finish_reason) == truth[1][0] and result.failovers >= 1
    finally:
        three.revive("12:24")


def test_a_grammar_that_is_none_is_the_callers_mistake_and_harms_nobody(three: Roster):
    with Client(swarm=three.swarm.join, config=ClientConfig(prefer=three.ids("0:12", "12:24"))) as client:
        with pytest.raises(BadGrammar, match="objekt"):
            client.generate(PROMPT, max_new_tokens=5, json_schema={"type": "objekt"})
        with pytest.raises(BadGrammar, match="too much time"):
            client.generate(
                PROMPT, json_schema={"allOf": [{"type": "string", "pattern": f".*{n}.*"} for n in range(60)]}
            )
        assert client.generate(PROMPT, max_new_tokens=5, ignore_eos=True).failovers == 0
