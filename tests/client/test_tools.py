from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from client.config import ClientConfig
from client.tools import Tools
from swarm.draft import Drafter


class Local:
    """Stands for ``client.drafter.LocalDrafts``."""

    def __init__(self) -> None:
        self.out: list[object] = []

    def take(self, prompt: Sequence[int], count: int) -> object:
        self.out.append((tuple(prompt), count))
        return self.out[-1]

    def give_back(self, drafter: object) -> None:
        self.out.remove(drafter)


async def drafter(tools: Tools, *, alone: bool = True) -> Any:
    async with tools.drafter((1, 2, 3), alone=alone) as found:
        return found


@pytest.mark.parametrize(
    ("config", "guesses"),
    [
        (ClientConfig(), False),
        (ClientConfig(draft_tokens=4), False),
        (ClientConfig(draft_tokens=4, shape="ring"), False),
        (ClientConfig(draft_tokens=4, shape="chain"), True),
        (ClientConfig(draft_tokens=4, shape="star"), True),
        (ClientConfig(shape="star"), False),
    ],
    ids=["none", "ring", "ring asked for", "chain", "star", "star without"],
)
async def test_the_client_guesses_where_the_last_hop_does_not(config: ClientConfig, guesses: bool):
    assert isinstance(await drafter(Tools(config)), Drafter) == guesses


async def test_who_holds_the_ends_guesses_too():
    assert isinstance(await drafter(Tools(ClientConfig(draft_tokens=4), ends=object())), Drafter)  # type: ignore[arg-type]


async def test_several_answers_are_not_guessed_at():
    assert await drafter(Tools(ClientConfig(draft_tokens=4, shape="star")), alone=False) is None


async def test_a_draft_model_is_lent_to_one_session_and_comes_back_in_any_case():
    local = Local()
    tools = Tools(ClientConfig(draft_tokens=4, draft_model=Path("x")), drafts=local)  # type: ignore[arg-type]
    async with tools.drafter((1, 2), alone=True) as one:
        assert one == ((1, 2), 4) and local.out == [one]
    assert not local.out
    with pytest.raises(ZeroDivisionError):
        async with tools.drafter((1, 2), alone=True):
            raise ZeroDivisionError
    assert not local.out


async def test_what_nobody_asked_for_is_not_opened():
    async with AsyncExitStack() as stack:
        tools = await Tools.open(ClientConfig(), None, stack)  # type: ignore[arg-type]
    assert tools.ends is None and await drafter(tools) is None
