"""LocalEnds: the Ends on the client's own machine (``ends="local"``). Peers then see hidden states, never token ids.

It computes what the first and the last Hop would, bit by bit, so a Session's tokens do not depend on where the Ends
are. Loading and computing run on a thread of their own, one thing at a time: the event loop only waits. torch is
imported there, when the first Ends are opened. This is no promise of privacy: activations can be inverted.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from proto.messages import Hidden, Token, WireDType
from swarm.errors import ShoalError
from swarm.peerinfo import ModelRef
from swarm.sampling import SamplingParams

if TYPE_CHECKING:
    from model.ends_model import EndsModel

Progress = Callable[[int, int], None]
"""Hears (bytes done, bytes in all) of the checkpoint's Ends, on the event loop."""

P = ParamSpec("P")
T = TypeVar("T")


def default_ends_dir() -> Path:
    """Where peers of this user keep their weights too: what one of them has quantised is not made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal" / "spans"


class Abandoned(ShoalError):
    """Nobody waits for these Ends any more."""


class LocalEnds:
    """``async with`` it, or ``await close()``. Sessions may share one."""

    def __init__(self, ends: EndsModel, worker: ThreadPoolExecutor):
        self._ends, self._worker = ends, worker

    @classmethod
    async def open(
        cls,
        model: str | None,
        revision: str | None,
        served: ModelRef,
        profile: str,
        cache_dir: Path | None = None,
        progress: Progress | None = None,
        threads: int | None = None,
    ) -> LocalEnds:
        """Find the checkpoint ``model``, see that it is the one ``served`` in ``profile``, load its Ends.

        ``model`` is a directory or a Hub id; None: what the swarm calls its model, where that is the sample model or a
        Hub id. Of the Blocks nothing is read but what the fingerprint samples. Quantised weights are kept below
        ``cache_dir`` (None: nowhere). Raises UsageError where it is another model, ModelError where it cannot be had.
        Cancelled, it stops at the next piece of a tensor.
        """
        loop, abandoned = asyncio.get_running_loop(), threading.Event()

        def advanced(done: int, total: int) -> None:
            if abandoned.is_set():
                raise Abandoned("nobody waits for the Ends")
            if progress is not None:
                loop.call_soon_threadsafe(progress, done, total)

        worker = ThreadPoolExecutor(1, thread_name_prefix="shoal-ends")
        try:
            ends = await loop.run_in_executor(
                worker, _load, model, revision, served, profile, cache_dir, advanced, threads
            )
        except BaseException:
            abandoned.set()
            worker.shutdown(wait=False, cancel_futures=True)
            raise
        return cls(ends, worker)

    async def __aenter__(self) -> LocalEnds:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Nothing is computed any more. Twice is once."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def embed(self, token_ids: Sequence[int], wire: WireDType) -> Hidden:
        """What the first Block takes for these tokens, one row each. Raises BadRequest outside the vocabulary."""
        return await self._there(_embed, self._ends, tuple(token_ids), wire)

    async def draw(
        self,
        hidden: Hidden,
        step: int,
        position: int,
        params: SamplingParams,
        history: Sequence[int],
        prompt_tokens: int,
        drafts: Sequence[int] = (),
    ) -> tuple[Token, ...]:
        """The Token at ``position`` and, as long as Tokens are what ``drafts`` guessed, the ones after it: from one to
        ``len(drafts) + 1`` of them, as the last Hop would have sent.

        ``hidden`` is the last Block's output at ``position`` - 1 and at each draft; ``history`` the tokens before
        ``position``, where ``params.needs_history``, of which ``prompt_tokens`` are the prompt. Raises BadNumbers for
        NaN or infinity, BadRequest for rows of another shape: both are the last Hop's.
        """
        known = tuple(history) if params.needs_history else ()
        return await self._there(_draw, self._ends, hidden, step, position, params, known, prompt_tokens, tuple(drafts))

    async def _there(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``call`` on the thread of the Ends."""
        return await asyncio.wrap_future(self._worker.submit(call, *args, **kwargs))


def _load(
    model: str | None, revision: str | None, served: ModelRef, profile: str, cache_dir: Path | None,
    progress: Progress, threads: int | None,
) -> EndsModel:  # fmt: skip
    from model.ends_model import open_ends

    return open_ends(model, revision, served, profile, cache_dir, progress, threads)


def _embed(ends: EndsModel, token_ids: Sequence[int], wire: WireDType) -> Hidden:
    from proto.tensors import to_hidden

    return to_hidden(ends.embed(token_ids), wire)


def _draw(
    ends: EndsModel, hidden: Hidden, step: int, position: int, params: SamplingParams, history: Sequence[int],
    prompt_tokens: int, drafts: Sequence[int],
) -> tuple[Token, ...]:  # fmt: skip
    from proto.tensors import from_hidden

    drawn = ends.draw(from_hidden(hidden), params, position, history, prompt_tokens, drafts)
    return tuple(Token(step, position + index, one.token_id, one.logprob, one.top) for index, one in enumerate(drawn))
