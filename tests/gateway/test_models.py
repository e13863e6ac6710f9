"""Which model a request means, and which there are, from what the swarm announces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from client import AsyncClient, ClientConfig
from dht.memory import MemoryDirectory, MemoryStore
from gateway import models as module
from gateway.aliases import read_aliases
from gateway.errors import ApiError
from gateway.models import Models, Target, means
from swarm.clock import SystemClock, VirtualClock
from swarm.errors import SwarmUnreachable
from swarm.peerinfo import ModelRef, PeerState
from swarm.view import SwarmView
from tests.support.hash_engine import hash_peer

ONE, TWO = ModelRef("code", "aa" * 16, 6), ModelRef("code", "bb" * 16, 6)
CHAT = ModelRef("org/chat", "cc" * 16, 6)


class Fixed:
    """A directory of what is written here."""

    def __init__(self, **spans: list[tuple[int, int]]):
        self.spans = {ModelRef(*next((m.name, m.fingerprint, 6) for m in (ONE, TWO, CHAT) if m.fingerprint[:2] == k)): v
                      for k, v in spans.items()}  # fmt: skip
        self.trouble: Exception | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        return ()

    async def models(self) -> tuple[ModelRef, ...]:
        if self.trouble is not None:
            raise self.trouble
        return tuple(self.spans)

    async def view(self, model: ModelRef) -> SwarmView:
        peers = [replace(hash_peer(n, *span), model=model) for n, span in enumerate(self.spans[model], 1)]
        return SwarmView.of(model, peers, 0.0)

    async def publish(self, info) -> None: ...
    async def withdraw(self, info) -> None: ...
    async def close(self) -> None: ...


WHOLE, HALF = [(0, 6)], [(0, 3)]


async def looked(directory: Fixed, *wanted: str, aliases: tuple[str, ...] = ()) -> Models:
    clock = VirtualClock()

    def make(fingerprint: str) -> AsyncClient:
        return AsyncClient(model=fingerprint, config=ClientConfig(), directory=directory, clock=clock)

    models = Models(directory, wanted, read_aliases(aliases), make, clock)
    await models.refresh()
    return models


def test_a_model_is_meant_by_name_revision_or_fingerprint():
    assert all(means(wanted, ONE) for wanted in ("code", "code@aaaa", "code@" + "aa" * 16, "a" * 8, "aa" * 16))
    assert not any(means(wanted, ONE) for wanted in ("Code", "code@bbbb", "code@aa", "aaa", "other@aaaa", "cod", ""))
    assert means("odd@aaaa", ModelRef("odd@aaaa", "bb" * 16, 1)), "a name that looks like a revision is a name first"


async def test_of_two_revisions_the_one_that_is_covered_is_meant():
    models = await looked(Fixed(aa=[*HALF, *HALF], bb=WHOLE))
    assert models.resolve("code", "r").model == TWO
    assert models.resolve("code@aaaa", "r") == Target("code@aaaa", ONE)


async def test_what_is_not_there_is_404_and_says_what_is():
    models = await looked(Fixed(cc=WHOLE), aliases=("best=org/chat",))
    with pytest.raises(ApiError, match=r"'gpt-4' does not exist; there are: best, org/chat") as error:
        models.resolve("gpt-4", "r")
    assert (error.value.status, error.value.code, error.value.param) == (404, "model_not_found", "model")


async def test_what_nobody_serves_now_is_503():
    models = await looked(Fixed(aa=[], cc=WHOLE), "org/chat", "later")
    for name in ("later",):
        with pytest.raises(ApiError, match="nobody serves") as error:
            models.resolve(name, "r")
        assert (error.value.status, error.value.headers["retry-after"]) == (503, "5")


async def test_only_what_was_named_is_offered():
    models = await looked(Fixed(aa=WHOLE, bb=WHOLE, cc=WHOLE), "code@bbbb")
    assert models.listed() == [Target("code@bbbb", TWO)]
    assert models.resolve("code", "r").model == TWO
    with pytest.raises(ApiError) as error:
        models.resolve("org/chat", "r")
    assert error.value.status == 404


async def test_whatever_is_served_is_offered_where_nothing_was_named():
    models = await looked(Fixed(aa=HALF, bb=WHOLE, cc=WHOLE))
    assert [target.name for target in models.listed()] == ["code", "code@aaaaaaaa", "org/chat"]


async def test_a_request_without_a_model_means_the_only_one():
    assert (await looked(Fixed(cc=WHOLE))).resolve(None, "r").model == CHAT
    with pytest.raises(ApiError, match="name a model") as error:
        (await looked(Fixed(aa=WHOLE, cc=WHOLE))).resolve(None, "r")
    assert error.value.param == "model"


async def test_an_alias_chooses_by_the_requests_id():
    models = await looked(Fixed(aa=WHOLE, cc=WHOLE), aliases=("best=code:1,org/chat:1",))
    chosen = {models.resolve("best", f"request {n}").name for n in range(50)}
    assert chosen == {"code", "org/chat"}
    assert len({models.resolve("best", "request 1") for _ in range(5)}) == 1


async def test_ready_means_every_named_model_is_covered():
    assert (await looked(Fixed(aa=HALF, cc=WHOLE))).ready
    assert not (await looked(Fixed(aa=HALF, cc=WHOLE), "code", "org/chat")).ready
    assert not (await looked(Fixed())).ready
    assert (await looked(Fixed(aa=WHOLE, cc=WHOLE), "code", "org/chat")).ready


async def test_the_last_picture_stays_when_the_swarm_cannot_be_reached():
    directory = Fixed(cc=WHOLE)
    models = await looked(directory)
    directory.trouble = SwarmUnreachable("gone")
    await models.refresh()
    assert models.resolve("org/chat", "r").model == CHAT


async def test_peers_that_leave_count_no_longer(tmp_path: Path):
    directory = MemoryDirectory(MemoryStore(SystemClock()))
    models = Models(directory, (), {}, lambda f: AsyncClient(directory=directory), SystemClock())
    info = hash_peer(1, 0, 6, expires_at=SystemClock().wall() + 30)
    await directory.publish(info)
    await models.refresh()
    assert models.ready
    await directory.publish(replace(info, state=PeerState.DRAINING, expires_at=info.expires_at + 1))
    await models.refresh()
    assert not models.ready and models.listed() == []


async def test_only_so_many_clients_are_kept_and_none_that_is_used_is_closed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CLIENTS", 1)
    models = await looked(Fixed(aa=WHOLE, cc=WHOLE))
    code, talk = models.resolve("code", "r"), models.resolve("org/chat", "r")
    async with models.use(code) as first:
        async with models.use(code) as again:
            assert again is first
        with pytest.raises(ApiError, match="in use") as error:
            async with models.use(talk):
                pass
        assert error.value.status == 503
    async with models.use(talk):
        assert first._closed
    async with models.use(code) as new:
        assert new is not first
