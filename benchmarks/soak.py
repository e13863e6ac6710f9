"""Does a swarm leak, or err, when for ten minutes clients come, leave and die, and peers are killed and come back?

The sample model, three Spans, each served by two peers with one thread. Clients are processes of their own: they run
several Sessions at once, give some up in mid-sentence, and some of them are killed (SIGKILL) in the middle. Every
quarter of a minute a peer is killed or asked to leave (SIGTERM), and started again; one stays from begin to end. Who
does what, and when, is drawn from --seed; how it interleaves is not.

Nothing here is measured for speed. Bars, all of them absolute:

- every text that was finished is that of an undisturbed run, every text that was given up is its beginning;
- no Session fails, for every Block is covered all the time;
- in the end, with nobody there, no peer has a Seat or a Page in use;
- the resident memory of every peer that lived for a minute is flat: median of its last third by that of its middle;
- file handles: not more than a few above those of the peer's first moment;
- who was asked to leave left with exit status 0.

    python -m benchmarks.soak [--seconds 600] [--clients 3] [--seed 0] [--quick]
"""

from __future__ import annotations

import asyncio
import random
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.kit.driving import COMMON, SAMPLE, Slot, arguments, generate, num_blocks, spans, vocabulary
from benchmarks.kit.ledger import Job, Ledger, Life, draw_jobs, draw_orders
from benchmarks.kit.processes import file_handles, health, pages_used, resident_bytes
from benchmarks.kit.proxies import free_port
from benchmarks.kit.report import Bar, conclude, console
from benchmarks.kit.workers import Worker, WorkerFailed
from client import AsyncClient
from peer.local import LocalSwarm

KV_TOKENS = "8192"
LOOK_EVERY_S = 1.0
SETTLE_S = 90.0  # longer than a lease: then nothing of the dead may be left
LONG_ENOUGH_S = 60.0  # of a peer's life, to speak of growth
HANDLES_MORE = 16  # Links to other peers, the DHT's acquaintances
VISIT_S = 120.0
DEATHS = 0.3  # of the visits


async def client_after_client(
    swarm: LocalSwarm, jobs: list[Job], drawn: random.Random, until: float, ledger: Ledger
) -> None:
    """Visitors, one after the other, each with a few visits."""
    while time.monotonic() < until:
        ledger.counts["clients"] += 1
        with Worker("benchmarks.kit.visitor", *swarm.join, timeout_s=VISIT_S) as visitor:
            for _ in range(drawn.randint(1, 4)):
                dies_after_s = drawn.uniform(0.1, 4.0) if drawn.random() < DEATHS else None
                if not await visit(visitor, jobs, drawn, dies_after_s, ledger):
                    break
            else:
                if await asyncio.to_thread(visitor.leave) != 0:
                    ledger.complain("failed", "a client did not end when it was asked to")


async def visit(
    visitor: Worker, jobs: list[Job], drawn: random.Random, dies_after_s: float | None, ledger: Ledger
) -> bool:
    """Several Sessions at once, in whose midst the client may die. Whether it lives."""
    chosen, orders = draw_orders(drawn, jobs)
    asking = asyncio.create_task(asyncio.to_thread(visitor.ask, "visit", jobs=orders))
    if dies_after_s is not None:
        await asyncio.wait((asking,), timeout=dies_after_s)
        ledger.counts["clients killed"] += 1
        visitor.kill()
    try:
        for job, outcome in zip(chosen, await asking, strict=True):
            ledger.enter(job, outcome)
    except WorkerFailed as error:
        if dies_after_s is None:
            ledger.complain("failed", str(error))
        return False
    return dies_after_s is None


async def peer_after_peer(
    slots: Sequence[Slot], drawn: random.Random, until: float, pause_s: float, ledger: Ledger
) -> None:
    """One peer at a time goes and comes back, so that every Block stays covered."""
    while time.monotonic() + 1.5 * pause_s < until:
        await asyncio.sleep(drawn.uniform(0.5, 1.5) * pause_s)
        slot, how = drawn.choice(slots), drawn.choice(("killed", "asked to leave"))
        ledger.counts[f"peers {how}"] += 1
        if how == "killed":
            slot.peer.process.send_signal(signal.SIGKILL)
        elif status := await asyncio.to_thread(slot.peer.terminate):
            ledger.complain("failed", f"a peer that was asked to leave ended with {status}")
        await slot.restart()


async def watch(slots: Sequence[Slot], lives: dict[int, Life]) -> None:
    """Looks at every living peer, look by look."""
    while True:
        for slot in slots:
            pid = slot.peer.process.pid
            with suppress(OSError):  # it may end while we look
                life = lives.setdefault(pid, Life(pid, [file_handles(pid)]))
                life.resident.append(resident_bytes(pid))
        await asyncio.sleep(LOOK_EVERY_S)


async def left_over(pages: Sequence[str]) -> dict[str, int]:
    """Seats and Pages in use when nobody is there any more; waits for them to go, as long as a lease may take."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        states = [await asyncio.to_thread(health, address) for address in pages]
        used = [await asyncio.to_thread(pages_used, address) for address in pages]
        found = {"seats_left": sum(state["sessions"] for state in states), "pages_left": sum(used)}
        if not any(found.values()) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(LOOK_EVERY_S)


async def soak(swarm: LocalSwarm, slots: Sequence[Slot], pages: Sequence[str], args: Any) -> dict[str, Any]:
    drawn = random.Random(args.seed)
    jobs: list[Job] = []
    async with AsyncClient(swarm.join) as calm:
        for job in draw_jobs(drawn, vocabulary(SAMPLE), args.texts):
            run = await generate(calm, job.prompt, job.tokens, **job.options)
            jobs.append(replace(job, oracle=run.token_ids))
    console().print(f"{len(jobs)} texts are known; the storm begins")
    ledger, until = Ledger(), time.monotonic() + args.seconds
    lives: dict[int, Life] = {}
    watching = asyncio.create_task(watch(slots, lives))
    peers, *clients = (random.Random(f"{args.seed}/{number}") for number in range(args.clients + 1))
    async with asyncio.TaskGroup() as group:
        for each in clients:
            group.create_task(client_after_client(swarm, jobs, each, until, ledger))
        group.create_task(peer_after_peer(slots[1:], peers, until, args.pause, ledger))
    found = await left_over(pages)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    ledger.lives = list(lives.values())
    for slot in slots:
        pid = slot.peer.process.pid
        if pid in lives:
            lives[pid].handles.append(file_handles(pid))
    return {
        "memory_growth": round(ledger.memory_growth(int(LONG_ENOUGH_S / LOOK_EVERY_S)), 4),
        "handles_more": ledger.handles_more(),
        **found,
        "counts": dict(ledger.counts),
        "complaints": ledger.complaints[:20],
    }


def measure(args: Any) -> dict[str, Any]:
    common = (*COMMON, "--kv-tokens", KV_TOKENS)
    with tempfile.TemporaryDirectory() as home, LocalSwarm(*common) as swarm:
        slots: list[Slot] = []
        pages: list[str] = []
        for index, span in enumerate([*spans(num_blocks(SAMPLE), 3)] * 2):
            pages.append(f"127.0.0.1:{free_port()}")
            slots.append(Slot(swarm, span, Path(home) / str(index), "--http", pages[-1]))
        return asyncio.run(soak(swarm, slots, pages, args))


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    counts = found["counts"]
    yield Bar("texts finished", counts.get("finished", 0), 1)
    yield Bar("texts that are wrong", counts.get("wrong", 0), 0, most=True)
    yield Bar("sessions and processes that failed", counts.get("failed", 0), 0, most=True)
    yield Bar("seats left in the end", found["seats_left"], 0, most=True)
    yield Bar("pages left in the end", found["pages_left"], 0, most=True)
    yield Bar("resident memory, end against middle of a life", found["memory_growth"], 1.1, most=True)
    yield Bar("file handles more than at first", found["handles_more"], HANDLES_MORE, most=True)


def main() -> None:
    parser = arguments("Ten minutes of coming and going.")
    parser.add_argument("--seconds", type=float, default=None, help="default: 600")
    parser.add_argument("--clients", type=int, default=3, help="at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.seconds = args.seconds or (15.0 if args.quick else 600.0)
    args.texts, args.pause = (4, 5.0) if args.quick else (24, 15.0)
    found = measure(args)
    counts = ", ".join(f"{number} {what}" for what, number in sorted(found["counts"].items()))
    console().print(f"in {args.seconds:g} s: {counts}")
    for complaint in found["complaints"]:
        console().print(complaint, markup=False)
    conclude("soak", list(bars(found)), {**found, "seconds": args.seconds, "clients": args.clients, "seed": args.seed})


if __name__ == "__main__":
    main()
