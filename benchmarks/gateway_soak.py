"""Does the gateway leak, or get stuck, when its clients vanish?

The sample model on three peers, one gateway process in front. Guests come all the time, each over a socket of its own:
some read to the end, most reset their connection in mid-stream, leave before there is an answer, do not read, send half
a request, ask for nonsense or speak no HTTP at all (``kit/guests.py`` has the ways). Who does what is drawn from
--seed. In the end, while answers run, the gateway is asked to leave.

Nothing here is measured for speed. Bars, all of them absolute:

- every text that was read to its end is that of a calm hour, and nobody waits for ever;
- once nobody is there, the gateway answers and queues nothing, and no peer has a Seat or a Page in use;
- the gateway's resident memory is flat: median of its last third by that of its middle;
- file handles, and threads: not more than a few above those before the first guest;
- asked to leave, it finishes what runs, turns away what comes, and ends with exit status 0.

    python -m benchmarks.gateway_soak [--seconds 1800] [--guests 12] [--seed 0] [--quick]
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.kit.driving import COMMON, SAMPLE, arguments, num_blocks, random_prompt, spans, vocabulary
from benchmarks.kit.figures import growth
from benchmarks.kit.gateways import LocalGateway
from benchmarks.kit.guests import Guests, Tally, Text, answer, request, told
from benchmarks.kit.processes import file_handles, health, pages_used, read_figure, resident_bytes, threads
from benchmarks.kit.proxies import free_port
from benchmarks.kit.report import Bar, conclude, console
from peer.local import LocalSwarm

KV_TOKENS = "8192"
BOUNDS = (
    "--max-running", "8", "--max-queue", "8", "--queue-timeout-s", "5", "--write-timeout-s", "3",
    "--body-timeout-s", "3", "--drain-s", "30",
)  # fmt: skip
LOOK_EVERY_S = 1.0
SETTLE_S = 90.0  # longer than a lease
HANDLES_MORE = 12
THREADS_MORE = 8
LEAVING = 6  # answers that run when it is asked to leave


async def looked_up(address: tuple[str, int], texts: Sequence[Text]) -> list[Text]:
    """The texts with their answers, in a calm hour: one after the other, over the same gateway."""
    tally, found = Tally(), []
    guests = Guests(address, list(texts), tally)
    for text in texts:
        status, body = await guests.whole(text, stream=True)
        if status != 200:
            raise RuntimeError(f"the gateway answered with {status}: {body[:300]!r}")
        found.append(Text(text.prompt, text.tokens, told(body)))
    return found


async def guest_after_guest(guests: Guests, drawn: random.Random, until: float) -> None:
    while time.monotonic() < until:
        await guests.visit(drawn)
        await asyncio.sleep(drawn.choice((0.0, 0.0, 0.05, 0.3)))


async def watch(pid: int, resident: list[float], handles: list[int]) -> None:
    while True:
        with suppress(OSError):
            resident.append(resident_bytes(pid))
            handles.append(file_handles(pid))
        await asyncio.sleep(LOOK_EVERY_S)


async def left_over(gateway: str, pages: Sequence[str]) -> dict[str, float]:
    """What is still held when nobody is there; waits for it to go, as long as a lease may take."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        found: dict[str, float] = {
            "running": await asyncio.to_thread(read_figure, gateway, "shoal_gateway_running"),
            "waiting": await asyncio.to_thread(read_figure, gateway, "shoal_gateway_queue_depth"),
        }
        states = [await asyncio.to_thread(health, address) for address in pages]
        found["seats"] = sum(state["sessions"] for state in states)
        found["pages"] = sum([await asyncio.to_thread(pages_used, address) for address in pages])
        if not any(found.values()) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(LOOK_EVERY_S)


async def leave(gateway: LocalGateway, texts: Sequence[Text], tally: Tally) -> int:
    """SIGTERM while answers run: they are to be whole, and a new one is turned away. The exit status."""
    guests = Guests(gateway.address, list(texts), tally)
    long = sorted(texts, key=lambda text: -text.tokens)[:LEAVING]
    asked = [await guests.ask(text, stream=True) for text in long]
    begun = [await reader.readuntil(b"\n\n") for reader, _ in asked]  # the head, with which a first token is due
    leaving = asyncio.create_task(asyncio.to_thread(gateway.terminate))
    while await asyncio.to_thread(_is_ready, gateway):  # noqa: ASYNC110 - a process tells no events
        await asyncio.sleep(0.02)
    with suppress(OSError):  # or it has gone already
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(request({"prompt": "x", "max_tokens": 1}))
        status, _ = await answer(reader)
        tally.counts["turned away while leaving"] += status == 503
        if status != 503:
            tally.complain("wrong", f"a gateway that leaves answered a new request with {status}")
    for text, (reader, _), head in zip(long, asked, begun, strict=True):
        rest = await reader.read()
        if b"data: [DONE]" not in rest or told(head + rest) != text.answer:
            tally.complain("wrong", f"an answer was cut when the gateway left: {rest[-200:]!r}")
        else:
            tally.counts["finished while leaving"] += 1
    return await leaving


def _is_ready(gateway: LocalGateway) -> bool:
    try:
        return health(gateway.url.removeprefix("http://"), "/readyz")["status"] == "ready"
    except OSError:
        return False


async def soak(gateway: LocalGateway, pages: Sequence[str], args: Any) -> dict[str, Any]:
    drawn, vocab = random.Random(args.seed), vocabulary(SAMPLE)
    wished = [
        Text(random_prompt(drawn.choice((8, 40, 300)), vocab, f"{args.seed}/{index}"), drawn.randint(8, 160))
        for index in range(args.texts)
    ]
    texts = await looked_up(gateway.address, wished)
    console().print(f"{len(texts)} texts are known; the guests come")
    pid, tally = gateway.process.pid, Tally()
    resident: list[float] = []
    handles: list[int] = []
    before, threads_before = file_handles(pid), threads(pid)
    watching = asyncio.create_task(watch(pid, resident, handles))
    guests, until = Guests(gateway.address, texts, tally), time.monotonic() + args.seconds
    async with asyncio.TaskGroup() as group:
        for number in range(args.guests):
            group.create_task(guest_after_guest(guests, random.Random(f"{args.seed}/{number}"), until))
    found = await left_over(gateway.url, pages)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    after, threads_after = file_handles(pid), threads(pid)
    status = await leave(gateway, texts, tally)
    errors = [line for line in gateway.log().splitlines() if '"error"' in line or "Traceback" in line]
    return {
        "memory_growth": round(growth(resident), 4),
        "resident_bytes": int(resident[-1]),
        "handles": {"before": before, "most": max(handles), "after": after},
        "threads": {"before": threads_before, "after": threads_after},
        "left": found,
        "exit_status": status,
        "logged_errors": errors[:5],
        "counts": dict(tally.counts),
        "complaints": tally.complaints[:20],
    }


def measure(args: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home, LocalSwarm(*COMMON, "--kv-tokens", KV_TOKENS) as swarm:
        pages: list[str] = []
        for index, span in enumerate(spans(num_blocks(SAMPLE), 3)):
            pages.append(f"127.0.0.1:{free_port()}")
            swarm.start([span], "--identity", str(Path(home) / str(index)), "--http", pages[-1])
        with LocalGateway(swarm.join, *BOUNDS) as gateway:
            return asyncio.run(soak(gateway, pages, args))


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    counts, left = found["counts"], found["left"]
    yield Bar("texts finished", counts.get("finished", 0), 1)
    yield Bar("answers that are wrong", counts.get("wrong", 0), 0, most=True)
    yield Bar("guests that were stuck, or failed", counts.get("stuck", 0) + counts.get("failed", 0), 0, most=True)
    yield Bar("requests that run or wait in the end", left["running"] + left["waiting"], 0, most=True)
    yield Bar("seats and pages left in the end", left["seats"] + left["pages"], 0, most=True)
    yield Bar("resident memory, end against middle", found["memory_growth"], 1.05, most=True)
    handles, threads_ = found["handles"], found["threads"]
    yield Bar("file handles more than before", handles["after"] - handles["before"], HANDLES_MORE, most=True)
    yield Bar("threads more than before", threads_["after"] - threads_["before"], THREADS_MORE, most=True)
    yield Bar("answers finished while it left", counts.get("finished while leaving", 0), LEAVING)
    yield Bar("exit status", found["exit_status"], 0, most=True)
    yield Bar("errors in its log", len(found["logged_errors"]), 0, most=True)


def main() -> None:
    parser = arguments("Half an hour of guests that vanish.")
    parser.add_argument("--seconds", type=float, default=None, help="default: 1800")
    parser.add_argument("--guests", type=int, default=12, help="at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.seconds = args.seconds or (15.0 if args.quick else 1800.0)
    args.texts = 8 if args.quick else 24
    found = measure(args)
    counts = ", ".join(f"{number} {what}" for what, number in sorted(found["counts"].items()))
    console().print(f"in {args.seconds:g} s: {counts}")
    for complaint in found["complaints"] + found["logged_errors"]:
        console().print(complaint, markup=False)
    setting = {"seconds": args.seconds, "guests": args.guests, "seed": args.seed}
    conclude("gateway_soak", list(bars(found)), {**found, **setting})


if __name__ == "__main__":
    main()
