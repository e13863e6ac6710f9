"""Trial: "Try it". One short answer from the swarm as events, with its Route and where its time went.

Nothing is kept of it. Few run at a time, each caller gets few a minute, an answer has a deadline, and when the browser
goes its Session is closed. The clients here are the dashboard's own, because they trace; they share its directory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from statistics import median
from typing import Any, cast

from client.async_client import AsyncClient
from client.config import ClientConfig
from client.result import Leg, Result
from client.sampling import Options
from client.text import Codec
from client.trace import Kind, StepTrace, Trace, layout
from dashboard.board import Board, dump
from dashboard.responses import ApiError, event
from swarm.bucket import Buckets
from swarm.errors import (
    Draining,
    Fault,
    ModelError,
    NoRoute,
    Refused,
    ShoalError,
    SwarmError,
    Timeout,
    UsageError,
)
from swarm.text import one_line

Json = dict[str, Any]

MAX_PROMPT = 2000  # letters
DEADLINE_S = 60.0
RETRY_S = 5.0
MAX_CLIENTS = 4
BURST = 3.0
SETTINGS = ClientConfig(
    trace=True, patience_s=3.0, admission_timeout_s=10.0, connect_timeout_s=20.0, max_concurrent=16, max_repairs=8
)

log = logging.getLogger("dashboard.trial")


class Trials:
    """``make`` builds the client of a model; tests have their own."""

    def __init__(self, board: Board, make: Callable[[str], AsyncClient] | None = None):
        self._board, self._make = board, make or self._client
        config = board.config
        self._buckets = Buckets(config.try_per_minute / 60, BURST)
        self._clients: OrderedDict[str, AsyncClient] = OrderedDict()  # by fingerprint, the longest unused first
        self._uses: dict[str, int] = {}
        self._learning = asyncio.Lock()
        self.running = 0

    async def close(self) -> None:
        """Leave the swarm."""
        clients, self._clients = list(self._clients.values()), OrderedDict()
        await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)

    def begin(self, caller: str, body: Any) -> AsyncGenerator[bytes]:
        """The events of one answer; ``end`` has to follow. Raises ApiError for what cannot be meant, or is too much."""
        config = self._board.config
        if not config.try_it:
            raise ApiError(403, "this dashboard offers no answers; use a client of the swarm")
        prompt, tokens, fingerprint = _read(body, config.try_tokens)
        model = self._board.model(fingerprint)
        if model is None:
            raise ApiError(404, "nobody serves this model now" if fingerprint else "nobody serves a model now", RETRY_S)
        wait_s = self._buckets.take(caller, self._board.clock.monotonic())
        if wait_s > 0:
            every_s = 60 / config.try_per_minute
            raise ApiError(429, f"one answer every {every_s:g} s, a few at once; the next in {wait_s:.0f} s", wait_s)
        if self.running >= config.try_at_once:
            raise ApiError(429, f"{self.running} answers are being made for others; try again soon", RETRY_S)
        self.running += 1
        return self._events(model, prompt, tokens)

    def end(self) -> None:
        """An answer that was begun is over, however."""
        self.running -= 1

    async def _events(self, model: Json, prompt: str, tokens: int) -> AsyncGenerator[bytes]:
        try:
            if model["gaps"]:
                gaps = ", ".join(model["gaps"])
                raise ApiError(503, f"nobody serves blocks {gaps} of {model['name']} now; try again later", RETRY_S)
            async with asyncio.timeout(DEADLINE_S):
                with self._used(model["fingerprint"]) as client:
                    async with aclosing(self._answer(client, prompt, tokens)) as answer:
                        async for each in answer:
                            yield each
        except ApiError as error:
            yield event("error", dump(error.body))
        except TimeoutError:
            yield event("error", dump(ApiError(504, f"no whole answer within {DEADLINE_S:g} s", RETRY_S).body))
        except (ShoalError, OSError) as error:
            log.info("an answer failed: %s", error)
            yield event("error", dump(explain(error).body))
        except Exception:
            log.exception("an answer failed")
            yield event("error", dump(ApiError(500, "the dashboard failed").body))

    async def _answer(self, client: AsyncClient, prompt: str, tokens: int) -> AsyncGenerator[bytes]:
        served = await client.served()
        options: Options = {"max_new_tokens": tokens}
        async with self._learning:  # one at a time: the first one imports transformers, whose imports cannot race
            chats = await asyncio.to_thread(_chats, served.codec)
        if chats:
            stream = client.stream_chat([{"role": "user", "content": prompt}], **options)
        else:
            stream = client.stream(prompt, **options)
        route: list[Leg] | None = None
        count = 0
        async with stream:
            async for piece in stream:
                if self._board.closing:
                    raise ApiError(503, "the dashboard is shutting down", RETRY_S)
                if piece.route != route:
                    route = piece.route
                    yield event("route", dump({"hops": self._hops(route), "shape": None}))
                count += len(piece.token_ids)
                yield event("text", dump({"text": piece.text, "tokens": count}))
            yield event("done", dump(self._ending(stream.result)))

    def _ending(self, result: Result) -> Json:
        return {
            "tokens": result.completion_tokens,
            "ttft_ms": round(result.ttft_s * 1000, 1),
            "tokens_per_s": round(result.tokens_per_s, 2),
            "finish_reason": result.finish_reason,
            "failovers": result.failovers,
            "route": {"hops": self._hops(result.route), "shape": result.shape},
            "waterfall": waterfall(result.trace, self._board.name_of),
        }

    def _hops(self, route: Sequence[Leg]) -> list[Json]:
        return [
            {
                "peer": leg["peer"],
                "name": self._board.name_of(leg["peer"]),
                "blocks": f"{leg['blocks'][0]}:{leg['blocks'][1]}",
            }
            for leg in route
        ]

    @contextmanager
    def _used(self, fingerprint: str) -> Generator[AsyncClient]:
        """The client of a model. Raises ApiError where too many others are in use."""
        if fingerprint not in self._clients and len(self._clients) >= MAX_CLIENTS:
            idle = next((name for name in self._clients if not self._uses.get(name)), None)
            if idle is None:
                raise ApiError(429, f"{MAX_CLIENTS} other models are being tried", RETRY_S)
            closing = asyncio.create_task(self._clients.pop(idle).close())
            closing.add_done_callback(lambda task: task.exception())
            self._uses.pop(idle, None)
        if fingerprint not in self._clients:
            self._clients[fingerprint] = self._make(fingerprint)
        client = self._clients[fingerprint]
        self._clients.move_to_end(fingerprint)
        self._uses[fingerprint] = self._uses.get(fingerprint, 0) + 1
        try:
            yield client
        finally:
            self._uses[fingerprint] -= 1

    def _client(self, fingerprint: str) -> AsyncClient:
        board = self._board
        return AsyncClient(model=fingerprint, config=SETTINGS, directory=board.directory, clock=board.clock)


def waterfall(trace: Trace | None, name_of: Callable[[str], str]) -> list[Json]:
    """What a step's time went to at each Hop: medians over the steps. Of the network only the sum of a step is known; a
    Hop has its share of the trips.
    """
    hops = trace.median_hops() if trace is not None else ()
    if trace is None or not hops:
        return []
    network_s = median(step.network_s for step in trace.decodes)
    step = StepTrace(0, 1, network_s + sum(hop.busy_s for hop in hops), hops)
    shares = [0.0] * len(hops)
    for stretch in layout(step, trace.shape):
        if stretch.kind is Kind.NETWORK:
            shares[stretch.hop] += stretch.end_s - stretch.start_s
    return [
        {
            "peer": hop.peer,
            "name": name_of(hop.peer),
            "blocks": str(hop.blocks),
            "queue_ms": round(hop.queue_s * 1000, 3),
            "compute_ms": round(hop.compute_s * 1000, 3),
            "network_ms": round(share * 1000, 3),
        }
        for hop, share in zip(hops, shares, strict=True)
    ]


def explain(error: Exception) -> ApiError:
    """What anybody may read of an error: kinds and Blocks. Peers' own words may hold addresses."""
    match error:
        case NoRoute(missing=missing) if missing:
            return ApiError(503, f"nobody serves blocks {', '.join(map(str, missing))} now; try again later", RETRY_S)
        case NoRoute():
            return ApiError(503, "no route through the swarm now; try again later", RETRY_S)
        case UsageError():
            return ApiError(400, one_line(str(error)))
        case Refused():
            return ApiError(503, "the peers have no room for another session now; try again later", RETRY_S)
        case Draining():
            return ApiError(503, "the peers of this route are leaving; try again", RETRY_S)
        case Timeout():
            return ApiError(504, "the peers took too long; try again later", RETRY_S)
        case Fault():
            return ApiError(502, f"a peer failed ({error.code.name.lower().replace('_', ' ')}); try again", RETRY_S)
        case SwarmError():
            return ApiError(503, "the swarm cannot be reached from here now; try again later", RETRY_S)
        case _:
            return ApiError(502, "the model cannot be used from here; its peers hand out nothing that fits")


def _chats(codec: Codec) -> bool:
    """Whether there is a chat template that can be used; slow the first time."""
    try:
        return codec.has_chat_template
    except ModelError:  # files that make no tokenizer for chats may make one for text
        return False


def _read(body: Any, most: int) -> tuple[str, int, str | None]:
    """Prompt, tokens, fingerprint. Raises ApiError 400."""
    if not isinstance(body, dict):
        raise ApiError(400, 'expected a JSON object: {"prompt": "…", "max_tokens": 64}')
    given = cast(dict[str, Any], body)
    prompt, tokens, model = given.get("prompt"), given.get("max_tokens", most), given.get("model")
    if not isinstance(prompt, str) or not 0 < len(prompt) <= MAX_PROMPT or not prompt.strip():
        raise ApiError(400, f"prompt must be a text of 1 to {MAX_PROMPT} letters")
    if type(tokens) is not int or not 1 <= tokens <= most:
        raise ApiError(400, f"max_tokens must be a whole number from 1 to {most}")
    if model is not None and not isinstance(model, str):
        raise ApiError(400, "model must be a fingerprint, as /api/v1/swarm has it, or null")
    return prompt, tokens, model
