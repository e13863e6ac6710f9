"""Tools: what a client computes by itself, where its config says so: the Ends, and guesses of a draft model. Opened
with the connection, shared by all Sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from client.config import ClientConfig
from client.drafter import LocalDrafts
from client.ends import LocalEnds, default_ends_dir
from client.served import Served
from swarm.draft import Drafter


class Tools:
    def __init__(self, config: ClientConfig, ends: LocalEnds | None = None, drafts: LocalDrafts | None = None):
        self.ends = ends
        self._config, self._drafts = config, drafts

    @classmethod
    async def open(cls, config: ClientConfig, served: Served, stack: AsyncExitStack) -> Tools:
        """What ``config`` asks for; ``stack`` closes it. Raises UsageError, ModelError."""
        ends = drafts = None
        if config.ends == "local":
            ends = await LocalEnds.open(config.checkpoint, None, served.model, served.profile, default_ends_dir())
            stack.push_async_callback(ends.close)
        if config.draft_model is not None:
            drafts = await asyncio.to_thread(LocalDrafts.load, str(config.draft_model), served.vocab_size)
        return cls(config, ends, drafts)

    @asynccontextmanager
    async def drafter(self, prompt: Sequence[int], *, alone: bool) -> AsyncGenerator[Drafter | None]:
        """For one Session, where the client is the one to guess. ``alone``: it has one answer to give."""
        config = self._config
        count = config.draft_tokens
        here = config.shape in ("chain", "star") or self.ends is not None or self._drafts is not None
        if not alone or not count or not here:
            yield None
        elif self._drafts is None:
            yield Drafter(prompt, count)
        else:
            drafter = await asyncio.to_thread(self._drafts.take, prompt, count)
            try:
                yield drafter
            finally:
                self._drafts.give_back(drafter)
