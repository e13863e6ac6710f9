"""A ring of Hops on virtual time around the real scheduler: costs are a formula, what a Link takes is a number.

Sessions decode for ever; prompts come in Chunks with a window, as a client sends them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

from peer.scheduler import Batch, Scheduler, is_decode
from proto.messages import Chunk, Want
from tests.support.seats import tokens

CHUNK_TOKENS = 256
WINDOW = 3  # Chunks of a prompt under way


def flat_then_linear(batch: Batch[str]) -> float:
    """Batches of up to 4 rows take 1, of 16 they take 2.3: weights are read once, arithmetic is done for each row."""
    return max(1.0, 0.55 + 0.11 * batch.num_tokens)


@dataclass
class Hop:
    scheduler: Scheduler[str]
    running: Batch[str] | None = None
    begun: float = 0.0
    busy: float = 0.0
    alarm: int = 0  # the number of the last wake-up call that counts
    batches: list[Batch[str]] = field(default_factory=list)


class Ring:
    def __init__(
        self,
        num_hops: int,
        cost: Callable[[Batch[str]], float] = flat_then_linear,
        latency: float = 0.02,
        prefill_tokens: int = 256,
    ):
        self.now = 0.0
        self.times: dict[str, list[float]] = {}  # when the tokens of each Session were drawn
        self.hops = [Hop(Scheduler(prefill_tokens=prefill_tokens, max_decodes=64)) for _ in range(num_hops)]
        self._cost, self._latency = cost, latency
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self._clients: dict[str, str] = {}
        self._prompts: dict[str, tuple[int, int]] = {}  # tokens in all, tokens sent
        self._gone: set[str] = set()

    def decode(self, name: str, client: str = "") -> None:
        """A Session has its prompt behind it and goes on by one token after the other."""
        self._clients[name], self.times[name] = client, []
        self._arrive(0, [(name, tokens(0, 0))])

    def prompt(self, name: str, size: int, client: str = "") -> None:
        """A Session comes with a prompt, and goes on after it."""
        self._clients[name], self.times[name], self._prompts[name] = client, [], (size, 0)
        for _ in range(WINDOW):
            self._send_prompt(name)

    def stop(self, name: str) -> None:
        self._gone.add(name)
        for hop in self.hops:
            hop.scheduler.discard(name)

    def vanish(self, name: str) -> None:
        """Nothing more comes of it, and nobody is told."""
        self._gone.add(name)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, act, args = heapq.heappop(self._events)
            act(*args)
        self.now = until

    def rate(self, since: float, names: str | None = None) -> float:
        """Tokens of all Sessions per unit of time."""
        drawn = [at for name, times in self.times.items() if names is None or name in names for at in times]
        return sum(at >= since for at in drawn) / (self.now - since)

    def gaps(self, name: str, since: float = 0.0) -> list[float]:
        times = [at for at in self.times[name] if at >= since]
        return [b - a for a, b in pairwise(times)]

    def _after(self, delay: float, act: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), act, args))

    def _send_prompt(self, name: str) -> None:
        size, sent = self._prompts[name]
        length = min(CHUNK_TOKENS, size - sent)
        if length:
            last = sent + length == size
            self._prompts[name] = size, sent + length
            chunk = tokens(sent // CHUNK_TOKENS, sent, length, Want.TOKEN if last else Want.NOTHING)
            self._after(self._latency, self._arrive, 0, [(name, chunk)])

    def _arrive(self, index: int, frame: Sequence[tuple[str, Chunk]]) -> None:
        for name, chunk in frame:
            if name not in self._gone:
                self.hops[index].scheduler.add(
                    name, chunk, self._clients[name], len(self.hops), self.now, leads=index == 0
                )
        self._start(index)

    def _start(self, index: int, alarm: int | None = None) -> None:
        hop = self.hops[index]
        if hop.running is not None or (alarm is not None and alarm != hop.alarm):
            return
        hop.alarm += 1
        batch = hop.scheduler.next_batch(self.now)
        if batch is not None:
            hop.running, hop.begun = batch, self.now
            self._after(self._cost(batch), self._finish, index)
        elif hop.scheduler.look_again_s is not None:
            self._after(hop.scheduler.look_again_s, self._start, index, hop.alarm)

    def _finish(self, index: int) -> None:
        hop = self.hops[index]
        batch, hop.running = hop.running, None
        assert batch is not None
        took = self.now - hop.begun
        hop.busy += took
        hop.batches.append(batch)
        hop.scheduler.observe(batch, took)
        frame: list[tuple[str, Chunk]] = []  # what a Batch sends to the next Hop is one message
        for work in batch.works:
            name, chunk = work.seat, work.chunk
            if index == 0 and not is_decode(chunk) and chunk.end % CHUNK_TOKENS == 0:
                self._after(self._latency, self._send_prompt, name)
            if index + 1 < len(self.hops):
                frame.append((name, chunk))
            elif chunk.want is Want.TOKEN and name not in self._gone:
                self.times[name].append(self.now)
                frame.append((name, tokens(chunk.step + 1, chunk.end)))
        self._after(self._latency, self._arrive, (index + 1) % len(self.hops), frame)
        self._start(index)
