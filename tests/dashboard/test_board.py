"""The board's pace and what it makes of trouble, on a clock that stands still; and over real peers in this process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboard import board as pace
from dashboard.board import Board
from dashboard.config import DashboardConfig
from dashboard.history import History
from dht.memory import MemoryDirectory, MemoryStore
from proto.messages import Info
from swarm.clock import SystemClock, VirtualClock
from swarm.errors import DeadLink, SwarmUnreachable, Timeout
from swarm.peerinfo import ModelRef, PeerInfo
from tests.client.loopback import Loopback
from tests.dashboard.cast import info, stats
from tests.support.hash_engine import MODEL
from tests.support.swarm import NOW, a_model, a_peer, settle


class ShakyDirectory(MemoryDirectory):
    down = False

    async def models(self) -> tuple[ModelRef, ...]:
        if self.down:
            raise SwarmUnreachable("nobody answers")
        return await super().models()


class Past(History):
    """Keeps points in a list: no thread, so that a virtual clock can be used."""

    def __init__(self) -> None:
        self.points: list[dict[str, Any]] = []

    async def add(self, point: dict[str, Any]) -> None:
        self.points.append(point)

    async def close(self) -> None:
        pass


class Stage:
    """A swarm of peers that are words only, and a Board over it."""

    def __init__(self, **choices: Any) -> None:
        self.clock = VirtualClock(wall=NOW)
        self.directory = ShakyDirectory(MemoryStore(self.clock))
        self.dead: set[str] = set()
        self.hanging: set[str] = set()
        self.decoded: dict[str, int] = {}
        self.asked: list[str] = []
        self.kept: list[str] = []
        self.past = Past()
        self.board = Board(self.directory, DashboardConfig(**choices), self.clock, self.past, self)

    async def info(self, peer: PeerInfo, timeout_s: float) -> Info:
        self.asked.append(peer.peer_id)
        if peer.peer_id in self.hanging:
            await self.clock.sleep(timeout_s)
            raise Timeout(f"{peer.address} does not answer")
        if peer.peer_id in self.dead:
            raise DeadLink(f"{peer.address} refused")
        return info(peer, stats(self.decoded.get(peer.peer_id, 0)))

    def keep(self, peers: Iterable[PeerInfo]) -> None:
        self.kept = [peer.peer_id for peer in peers]

    async def close(self) -> None:
        pass

    async def publish(self, *peers: PeerInfo) -> None:
        for peer in peers:
            await self.directory.publish(replace(peer, expires_at=self.clock.wall() + 45))

    async def later(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
            await settle()

    def row(self, peer: PeerInfo) -> dict[str, Any]:
        return next(row for row in self.board.picture["peers"] if row["id"] == peer.peer_id)

    @property
    def state(self) -> str:
        return self.board.picture["models"][0]["state"]


A, B = a_peer(1, "0:12"), a_peer(2, "12:24")


@asynccontextmanager
async def stage_of(*peers: PeerInfo, **choices: Any) -> AsyncIterator[Stage]:
    stage = Stage(**choices)
    await stage.publish(*peers)
    async with stage.board:
        yield stage


async def test_the_first_picture_is_whole():
    async with stage_of(A, B) as stage:
        assert stage.state == "fragile" and stage.board.picture["totals"]["ready"] == 2
        assert json.loads(stage.board.body) == stage.board.picture
        assert stage.board.version == 1 and stage.board.in_touch


async def test_a_peer_that_dies_is_seen_within_five_seconds():
    async with stage_of(A, B) as stage:
        await stage.later(3)
        stage.dead.add(B.peer_id)
        passed = 0.0
        while stage.state == "fragile":
            await stage.later(0.25)
            passed += 0.25
        assert stage.row(B)["reachable"] is False and stage.board.picture["models"][0]["gaps"] == ["12:24"]
        assert passed <= 5


async def test_tokens_a_second_are_read_off_counters():
    async with stage_of(A, B) as stage:
        for _ in range(20):
            for peer in (A, B):
                stage.decoded[peer.peer_id] = stage.decoded.get(peer.peer_id, 0) + 8
            await stage.later(0.25)
        assert stage.board.picture["totals"]["tokens_per_s"] == pytest.approx(32, rel=0.25)
        assert stage.past.points[-1]["min_replicas"] == 1
        await stage.later(6)
        assert stage.board.picture["totals"]["tokens_per_s"] == 0


async def test_a_directory_that_is_away_leaves_those_who_answer(caplog: pytest.LogCaptureFixture):
    async with stage_of(A, B) as stage:
        stage.directory.down = True
        stage.dead.add(A.peer_id)
        await stage.later(60)
        assert not stage.board.in_touch and stage.row(B)["state"] == "ready"
        assert A.peer_id not in [row["id"] for row in stage.board.picture["peers"] if row["state"] != "gone"]
        stage.directory.down = False
        await stage.publish(A)
        await stage.later(8)
        assert stage.board.in_touch and stage.row(A)["state"] == "ready"
        assert len([r for r in caplog.records if "cannot look" in r.message]) == 1


async def test_equal_pictures_are_told_every_five_seconds_and_news_at_once():
    async with stage_of(A) as stage:
        await stage.later(11)
        before = stage.board.version
        await stage.later(20)
        assert 3 <= stage.board.version - before <= 5
        before, news = stage.board.version, asyncio.create_task(stage.board.news())
        await stage.publish(B)
        await stage.later(4)
        assert news.done() and stage.board.version > before
        assert len(stage.board.picture["peers"]) == 2


async def test_a_point_of_history_comes_every_ten_seconds_of_the_wall_clock():
    async with stage_of(A, B) as stage:
        await stage.later(0.5)
        first = stage.board.point
        await stage.later(40)
        assert first is not None and stage.board.point is not first
        assert [int(p["at"]) // 10 for p in stage.past.points] == [
            int(NOW) // 10 + n for n in range(len(stage.past.points))
        ]
        one = stage.board.peer(A.peer_id)
        assert one is not None and len(one["history"]) == len(stage.past.points) and one["span"] == "0:12"


async def test_many_who_never_answer_hold_nobody_up():
    crowd = [a_peer(number) for number in range(100, 400)]
    async with stage_of(A, *crowd) as stage:
        stage.dead.update(peer.peer_id for peer in crowd)
        await stage.later(10)
        stage.asked.clear()
        await stage.later(6)
        assert stage.asked.count(A.peer_id) >= 3, "asked every 1.5 s all the same"
        assert stage.row(A)["reachable"] is True


async def test_a_newcomer_is_asked_at_once_beside_many_who_never_answer():
    crowd = [a_peer(number) for number in range(100, 400)]
    async with stage_of(*crowd) as stage:
        stage.hanging = {peer.peer_id for peer in crowd}
        await stage.later(20)
        await stage.publish(A)
        await stage.later(4)
        assert stage.row(A)["reachable"] is True


async def test_models_that_nobody_serves_are_looked_at_in_turns():
    async with stage_of(A) as stage:
        for digit in range(40):
            model = ModelRef(f"m{digit}", f"{digit:032x}", 24)
            await stage.directory.publish(a_peer(1000 + digit, model=model, expires_at=stage.clock.wall() + 100))
            await stage.directory.withdraw(a_peer(1000 + digit, model=model, expires_at=stage.clock.wall() + 100))
        looked: list[str] = []
        view = stage.directory.view

        async def viewing(model: ModelRef) -> Any:
            looked.append(model.name)
            return await view(model)

        stage.directory.view = viewing  # type: ignore[method-assign]
        await stage.later(12)
        assert len(set(looked)) == 41 and looked.count("sample") >= 5
        assert len(looked) <= 7 * (1 + pace.NEW_MODELS)


async def test_a_mistake_of_ours_does_not_leave_an_old_picture(monkeypatch: pytest.MonkeyPatch):
    async with stage_of(A) as stage:
        draw, failures = stage.board._draw, [RuntimeError("a mistake")]

        async def failing() -> None:
            if failures:
                raise failures.pop()
            await draw()

        monkeypatch.setattr(stage.board, "_draw", failing)
        await stage.later(3)
        before = stage.board.picture["at"]
        await stage.later(3)
        assert stage.board.picture["at"] > before


async def test_what_takes_long_to_draw_is_drawn_on_another_thread(monkeypatch: pytest.MonkeyPatch):
    threads: set[str] = set()
    render = pace._render

    def watched(*given: Any) -> Any:
        threads.add(threading.current_thread().name)
        return render(*given)

    monkeypatch.setattr(pace, "_render", watched)
    async with stage_of(A) as stage:
        assert threads == {"MainThread"}
        stage.board._took_s = 1.0
        threads.clear()
        await stage.board._draw()
        assert threads and "MainThread" not in threads


async def test_models_may_be_chosen_and_are_bounded(monkeypatch: pytest.MonkeyPatch):
    other = a_peer(3, "0:24", model=a_model(name="other", digit="b"))
    async with stage_of(A, other, models=("other",)) as stage:
        assert [model["name"] for model in stage.board.picture["models"]] == ["other"]
    async with stage_of(A, other, models=("a" * 32,)) as stage:
        assert [model["name"] for model in stage.board.picture["models"]] == ["sample"]
    monkeypatch.setattr(pace, "MAX_MODELS", 1)
    async with stage_of(other) as stage:
        await stage.publish(A, a_peer(4, model=a_model(name="aaa", digit="c")))
        await stage.later(10)
        assert [model["name"] for model in stage.board.picture["models"]] == ["other"], "who has peers stays"


async def test_channels_are_kept_for_those_who_are_there():
    async with stage_of(A, B) as stage:
        assert stage.kept == [A.peer_id, B.peer_id]
        stage.dead.add(B.peer_id)
        await stage.later(43)
        await stage.publish(A)
        await stage.later(6)
        assert stage.kept == [A.peer_id]


async def test_hanging_up_wakes_who_waits():
    async with stage_of(A) as stage:
        waiting = asyncio.create_task(stage.board.news())
        await settle()
        stage.board.hang_up()
        await settle()
        assert waiting.done() and stage.board.closing
        await stage.board.news()


async def test_a_board_over_real_peers(tmp_path: Path):
    """They are of an older make: no statistics."""
    async with Loopback([(0, 3), (3, 6)], tmp_path) as swarm:
        history = await History.open(None)
        async with Board(swarm.directory, DashboardConfig(), SystemClock(), history) as board:
            (model,) = board.picture["models"]
            assert (model["name"], model["coverage"]) == (MODEL.name, [1] * 6)
            assert [row["tokens_per_s"] for row in board.picture["peers"]] == [None, None]
            await swarm.stop(0)
            async with asyncio.timeout(10):
                while board.picture["models"][0]["state"] != "broken":
                    await board.news()
        await history.close()
