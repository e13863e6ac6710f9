"""House: a whole dashboard with its lifetime, for its own server and for a gateway that shows one too."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from dashboard.app import build_app
from dashboard.board import Board
from dashboard.config import DashboardConfig
from dashboard.history import History, swarm_key
from dashboard.trial import Trials
from dht.directory import Directory
from swarm.clock import Clock
from swarm.errors import UsageError

log = logging.getLogger("dashboard.house")


@dataclass(frozen=True, slots=True)
class House:
    """``app`` may be mounted under "/" of any server, as long as this is open."""

    board: Board
    trials: Trials
    app: ASGIApp

    def hang_up(self) -> None:
        """Before the server ends: streams that are open would hold it up."""
        self.board.hang_up()


@asynccontextmanager
async def opened(
    config: DashboardConfig, directory: Directory, clock: Clock, static: Path | None = None
) -> AsyncGenerator[House]:
    """Over ``directory``, which stays its owner's. Raises UsageError for a history file that was named and is none."""
    async with AsyncExitStack() as stack:
        history = await _history(config)
        stack.push_async_callback(history.close)
        board = await stack.enter_async_context(Board(directory, config, clock, history))
        trials = Trials(board)
        stack.push_async_callback(trials.close)
        yield House(board, trials, build_app(board, trials, static))


async def _history(config: DashboardConfig) -> History:
    if config.own_history:
        return await History.open(config.history)
    try:
        return await History.open(config.history, swarm_key(config.join))
    except UsageError as error:
        log.warning("%s; it is kept in memory for now", error)
        return await History.open(None)
