"""The life of a Peer, as one coroutine. Puts the parts together, in order; each step undoes itself on the way out.

ports bound → model understood, swarm joined → Span chosen, announced as JOINING → loaded, probed → gRPC answers
→ announced as READY → ready line … leave() … DRAINING, no new Seats → Sessions finish → withdrawn → Links closed
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from peer.announcer import Announcer
from peer.around import Announced, limits_for, warn_of_namesakes
from peer.capacity import blocks_that_fit, free_bytes, kv_tokens_that_fit
from peer.claim import Claim
from peer.config import PeerConfig
from peer.desk import Desk
from peer.engine import Computing, Engine
from peer.flows import Flows
from peer.grammars import Grammars, Readers
from peer.identity import Identity, load_identity
from peer.journals import Journals
from peer.loading import Arithmetic, Checkpoint, load, open_arithmetic, open_checkpoint, open_readers, settle
from peer.meter import Meter, Side
from peer.metrics import Books, Metrics
from peer.neighbours import Neighbours
from peer.pages import PagePool
from peer.probe import measure_block_s
from peer.progress import progress
from peer.reach import announced_address
from peer.scheduler import Scheduler
from peer.seat import Seat
from peer.seats import Seats, Terms
from peer.server import GrpcServer, HttpServer
from peer.service import Service, asset_refs
from proto.limits import PAGE_TOKENS, Limits
from proto.messages import Hello, Info
from swarm.address import Address
from swarm.clock import Clock
from swarm.errors import UsageError
from swarm.peerinfo import PeerState, PeerStats
from swarm.placement import choose_span
from swarm.span import Span
from swarm.version import software_version

if TYPE_CHECKING:
    from dht.directory import Directory

SWEEP_EVERY_S = 1.0
DRAIN_LOOK_S = 0.05
GOODBYE_S = 3.0  # for the swarm to take note that this Peer leaves
LINKS_END_S = 1.0  # for Links to write what is queued
CLAIM_S = 45.0  # how long what Info says may be believed

log = structlog.get_logger("peer.serving")


class Serving:
    """``run`` returns when the Peer has left; ``leave`` asks it to. A cancelled ``run`` leaves at once."""

    def __init__(self, config: PeerConfig, clock: Clock, output: TextIO = sys.stdout):
        self._config = config
        self._clock = clock
        self._output = output
        self._claim: Claim | None = None
        self._leaving = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self._claim is not None and self._claim.state is PeerState.READY

    def leave(self) -> None:
        self._leaving.set()

    async def run(self) -> None:
        config = self._config
        async with AsyncExitStack() as stack:
            server = GrpcServer()
            listening = await server.bind(config.listen)
            stack.push_async_callback(server.stop, 0.0)
            metrics = Metrics(software_version())
            if config.http is not None:
                http = HttpServer(self._status, lambda: self.ready, metrics.render)
                answering = await http.start(config.http)
                stack.push_async_callback(http.stop)
                log.info("http answers", address=str(answering))
            identity = load_identity(config.identity)
            stack.callback(identity.close)
            scheduler = Scheduler[Seat](prefill_tokens=config.max_chunk_tokens, max_decodes=config.max_sessions)
            engine = Engine(scheduler, self._clock, metrics)
            stack.callback(engine.close)
            checkpoint, arithmetic, directory = await self._find(engine, identity, stack)
            await warn_of_namesakes(checkpoint.ref, directory)
            span = await self._span(checkpoint, arithmetic, directory)
            limits = limits_for(checkpoint.config, config.max_chunk_tokens)
            hello = Hello(software_version(), identity.peer_id)
            known = Announced(directory, checkpoint.ref, self._clock)
            flows = Flows(identity.peer_id, self._clock)
            neighbours = Neighbours(hello, limits, known, self._clock, connect=flows.connect, meter=metrics)
            stack.push_async_callback(neighbours.close)
            seats = self._seats(checkpoint, arithmetic, span, metrics)
            journals = Journals(config.journal_bytes, config.journal_disk_bytes)
            desk = Desk(seats, engine, neighbours, identity.peer_id, meter=metrics, journals=journals)
            claim = Claim(
                peer_id=identity.peer_id,
                instance=secrets.randbits(63),
                address=str(announced_address(listening, config.announce)),
                version=software_version(),
                desk=desk,
                name=config.name,
                public_address=config.public_address,
            )
            self._claim = claim
            announcer = Announcer(directory, claim.info, self._clock)
            stack.push_async_callback(_briefly, announcer.withdraw)
            async with _background(announcer.run(), known.run(), flows.run(desk.seats), self._sweep(desk, neighbours)):
                readers = open_readers(checkpoint, span, config.max_sessions)
                grammars = Grammars(desk.receive, desk.seats.grammar_of, readers)
                stack.push_async_callback(grammars.close)
                runner = await self._load(checkpoint, arithmetic, span, engine, desk.seats, readers, stack)
                hidden_size = checkpoint.config.hidden_size
                claim.block_s = await measure_block_s(desk.seats, engine, runner, hidden_size, self._clock)
                async with _background(_pump(engine, runner, desk)):
                    service = self._service(claim, checkpoint, hello, limits, metrics, flows, grammars)
                    metrics.watch(lambda: _books(desk, service, neighbours))
                    await server.start(service)
                    await server.set_serving(True)
                    claim.state = PeerState.READY
                    gc.collect()
                    gc.freeze()  # what is here stays: collections in mid-step need not look at it
                    if await announcer.announce_until(self._leaving):
                        self._say_ready(claim, directory)
                        await self._leaving.wait()
                    await self._drain(claim, announcer, server)

    async def _find(
        self, engine: Engine, identity: Identity, stack: AsyncExitStack
    ) -> tuple[Checkpoint, Arithmetic, Directory]:
        """Understand the model, choose what computes it and join the swarm, side by side."""
        # Slow, and /healthz answers already; awaited, for it imports torch, and the compute thread is about to.
        await asyncio.to_thread(importlib.import_module, "dht.node")
        from dht.node import HivemindDirectory

        config = self._config
        host = config.dht_listen or Address(config.listen.host, 0)
        announce = Address(config.announce.host, host.port) if config.announce and host.port else None

        async def join() -> Directory:
            directory = await HivemindDirectory.create(
                listen=str(host),
                announce=None if announce is None else str(announce),
                join=config.join,
                identity_path=identity.p2p_key_path,
                found_after_s=config.found_after_s,
            )
            stack.push_async_callback(directory.close)
            return directory

        def prepare() -> tuple[Checkpoint, Arithmetic]:
            settle(config.threads)
            return open_checkpoint(config), open_arithmetic(config)

        async with asyncio.TaskGroup() as both:
            opening = both.create_task(engine.call(prepare))
            joining = both.create_task(join())
        return *opening.result(), joining.result()

    async def _span(self, checkpoint: Checkpoint, arithmetic: Arithmetic, directory: Directory) -> Span:
        config, ref = self._config, checkpoint.ref
        if config.blocks is not None:
            if config.blocks.end > ref.num_blocks:
                here = f"{ref.name}, which has {ref.num_blocks} blocks"
                raise UsageError(f"--blocks {config.blocks} lies outside {here}; choose from 0:{ref.num_blocks}")
            return config.blocks
        at_most = config.max_blocks or blocks_that_fit(
            checkpoint.config, config.profile, arithmetic.free_bytes or free_bytes()
        )
        view = await directory.view(ref)
        span = choose_span(view, at_most, arithmetic.profile)
        log.info("span chosen", blocks=str(span), at_most=at_most, peers=len(view.peers))
        return span

    def _seats(self, checkpoint: Checkpoint, arithmetic: Arithmetic, span: Span, meter: Meter) -> Seats:
        from kernels.types import PAGE_SIZE

        config, model = self._config, checkpoint.config
        wanted = kv_tokens_that_fit(
            model, config.profile, span, config.kv_tokens, arithmetic.free_bytes or free_bytes()
        )
        assert PAGE_SIZE == PAGE_TOKENS, "a client names Pages of another size, and would find none again"
        terms = Terms(
            checkpoint.ref,
            span,
            arithmetic.profile,
            model.max_positions,
            page_size=PAGE_SIZE,
            max_sessions=config.max_sessions,
            max_chunk_tokens=config.max_chunk_tokens,
            lease_s=config.lease_s,
        )
        pool = PagePool(-(-wanted // PAGE_SIZE), config.overcommit)
        return Seats(terms, pool, self._clock, config.swap_bytes, meter)

    async def _load(
        self, checkpoint: Checkpoint, arithmetic: Arithmetic, span: Span, engine: Engine, seats: Seats,
        readers: Readers | None, stack: AsyncExitStack,
    ) -> Computing:  # fmt: skip
        abandon = threading.Event()
        stack.callback(abandon.set)
        num_pages = seats.housing.pool.total
        with progress(f"loading blocks {span} of {checkpoint.ref.name}") as advanced:
            return await engine.call(
                load, checkpoint, span, self._config, arithmetic, num_pages, advanced, abandon, readers
            )

    def _service(
        self, claim: Claim, checkpoint: Checkpoint, hello: Hello, limits: Limits, metrics: Metrics, flows: Flows,
        grammars: Grammars,
    ) -> Service:  # fmt: skip
        model, config = checkpoint.config, self._config
        assets = asset_refs(checkpoint.assets)

        def info() -> Info:
            now = claim.info(self._clock.wall() + CLAIM_S)
            return Info(
                now, assets, model.hidden_size, model.vocab_size, model.max_positions, model.eos_token_ids,
                _stats(claim.desk.seats, metrics, flows),
            )  # fmt: skip

        return Service(
            claim.desk, hello, limits, info, checkpoint.assets, max_links=config.max_links, meter=metrics,
            grammars=grammars,
        )  # fmt: skip

    async def _sweep(self, desk: Desk, neighbours: Neighbours) -> None:
        while True:
            await self._clock.sleep(SWEEP_EVERY_S)
            desk.sweep()
            neighbours.sweep()

    def _say_ready(self, claim: Claim, directory: Directory) -> None:
        info = claim.info(0.0)
        line = {
            "event": "ready",
            "peer_id": info.peer_id,
            "model": info.model.name,
            "blocks": [info.span.start, info.span.end],
            "profile": info.profile,
            "address": info.address,
            "join": list(directory.addresses),
        }
        log.info("ready", peer=str(info), address=info.address, kv_tokens=info.kv_tokens, block_s=info.block_s)
        print(json.dumps(line), file=self._output, flush=True)

    async def _drain(self, claim: Claim, announcer: Announcer, server: GrpcServer) -> None:
        desk = claim.desk
        log.info("draining", sessions=len(desk.seats), seconds=self._config.drain_s)
        desk.drain()
        claim.state = PeerState.DRAINING
        await server.set_serving(False)
        await _briefly(announcer.announce_now)
        deadline = self._clock.monotonic() + self._config.drain_s
        while len(desk.seats) and self._clock.monotonic() < deadline:
            await self._clock.sleep(DRAIN_LOOK_S)
        await _briefly(announcer.withdraw)
        if len(desk.seats):
            log.warning("sessions are sent away", sessions=len(desk.seats))
        desk.evict()
        desk.hang_up()
        await server.stop(LINKS_END_S)

    def _status(self) -> dict[str, Any]:
        claim = self._claim
        if claim is None:
            return {"state": "STARTING"}
        info = claim.info(0.0)
        return {
            "state": info.state.name,
            "peer_id": info.peer_id,
            "model": info.model.name,
            "blocks": [info.span.start, info.span.end],
            "address": info.address,
            "sessions": info.sessions,
            "links": claim.desk.num_links,
            "kv_tokens": info.kv_tokens,
            "kv_tokens_free": info.kv_tokens_free,
            "queue_tokens": info.queue_tokens,
        }


def _books(desk: Desk, service: Service, neighbours: Neighbours) -> Books:
    """What the gauges say now."""
    pool, outflows = desk.seats.housing.pool, [seat.outflow for seat in desk.seats]
    return Books(
        sessions=len(desk.seats),
        client_links=service.links(Side.CLIENT),
        peer_links=service.links(Side.PEER) + len(neighbours),
        queue_tokens=desk.engine.queue_tokens,
        pages_used=pool.used,
        pages_cached=pool.cached,
        pages_free=pool.free - pool.cached,
        pages_owed=pool.owed,
        journal_memory_bytes=sum(outflow.rows.size for outflow in outflows),
        journal_disk_bytes=sum(outflow.rows.spilled for outflow in outflows),
    )


def _stats(seats: Seats, metrics: Metrics, flows: Flows) -> PeerStats:
    """What Info says of the work."""
    pool = seats.housing.pool
    return PeerStats(metrics.prefill_tokens, metrics.decode_tokens, pool.total, pool.used, flows.read(seats))


async def _pump(engine: Engine, runner: Computing, desk: Desk) -> None:
    async for outputs in engine.outputs(runner, desk.seats.house):
        desk.deliver(outputs)


@asynccontextmanager
async def _background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these beside the body and end them with it. One that fails ends the body."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _briefly(goodbye: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Whoever leaves does not wait long for a swarm that does not listen."""
    try:
        async with asyncio.timeout(GOODBYE_S):
            await goodbye()
    except TimeoutError:
        log.warning("the swarm did not take note in time; the record will expire", seconds=GOODBYE_S)
