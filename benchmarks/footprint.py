"""What does a peer of TinyLlama-1.1B's shape take: memory, time to start, and a neighbour's speed?

Real ``peer.serve`` processes with the whole model in profile c8, on loopback, weights quantised and on disk before.

- **Memory**: the resident set of the process after a prompt and 64 tokens. The bar is 1.05 times the INT8 bytes of its
  Span (a byte a weight), the keys and values that --kv-tokens reserves, and 300 MB for Python, torch and all else.
  p2pd, the DHT's daemon, is a process of its own and is shown beside it.
- **Start**: from the command to the ready line, weights from the disk cache, which the page cache holds.
- **Company**: two peers with two threads each on two cores, a Session on each. Threads that wait must sleep: together
  they bring at least 0.9 of what one alone brings.

    python -m benchmarks.footprint [--dir DIR] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.kit.checkpoint import cache_directory, random_checkpoint
from benchmarks.kit.clock import stepper
from benchmarks.kit.report import Bar, conclude, console, progress
from benchmarks.kit.shapes import LLAMA_1B, LlamaShape
from client import Client
from peer.local import LocalPeer

PROMPT = [300 + index % 64 for index in range(256)]
SHORT = PROMPT[:8]  # where only decoding counts
ELSE_BYTES = 300e6
FIRST_START_S = 600.0  # it may have to quantise


@dataclass(frozen=True)
class Plan:
    shape: LlamaShape = LLAMA_1B
    rounds: int = 5
    starts: int = 5
    tokens: int = 64
    kv_tokens: int = 4096
    threads: int = 2

    @property
    def kv_bytes(self) -> int:
        return self.shape.blocks * self.shape.kv_bytes_per_token * self.kv_tokens

    @property
    def allowed_bytes(self) -> float:
        return 1.05 * self.shape.weights + self.kv_bytes + ELSE_BYTES


@dataclass(frozen=True)
class Window:
    """When a Session's tokens came."""

    times: list[float]

    def rate(self, begin: float, end: float) -> float:
        """Tokens a second between the two."""
        return sum(begin < at <= end for at in self.times) / (end - begin)


def start(plan: Plan, checkpoint: Path, cache: Path) -> LocalPeer:
    return LocalPeer(
        "--model", str(checkpoint), "--blocks", f"0:{plan.shape.blocks}", "--cache", str(cache),
        "--threads", str(plan.threads), "--kv-tokens", str(plan.kv_tokens), "--log-level", "warning",
    )  # fmt: skip


def start_s(plan: Plan, checkpoint: Path, cache: Path) -> float:
    begun = time.perf_counter()
    peer = start(plan, checkpoint, cache)
    try:
        peer.wait_ready(FIRST_START_S)
        return time.perf_counter() - begun
    finally:
        peer.end()


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process: all that is resident, its own part and the part that is mapped from files."""
    wanted = {"VmRSS": "resident", "RssAnon": "own", "RssFile": "mapped"}
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in wanted:
            found[wanted[key]] = int(value.split()[0]) << 10
    return found


def daemons_bytes(pid: int) -> int:
    """Resident bytes of its child processes: p2pd."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(memory(int(child)).get("resident", 0) for child in children)


def generate(client: Client, prompt: list[int], tokens: int) -> Window:
    pieces = client.stream(prompt, max_new_tokens=tokens, ignore_eos=True)
    return Window([time.perf_counter() for _ in pieces])


def alone(client: Client, tokens: int) -> float:
    """Tokens a second once the prompt is done."""
    window = generate(client, SHORT, tokens)
    return window.rate(window.times[0], window.times[-1])


def together(clients: tuple[Client, ...], tokens: int) -> float:
    """Tokens a second of all, while all of them decode. Raises RuntimeError where they never did so together."""
    with ThreadPoolExecutor(len(clients)) as pool:
        windows = list(pool.map(lambda client: generate(client, SHORT, tokens), clients))
    return overlap_rate(windows)


def overlap_rate(windows: list[Window]) -> float:
    begin, end = max(window.times[0] for window in windows), min(window.times[-1] for window in windows)
    if begin >= end:
        raise RuntimeError("one session was over before the other had begun; take more tokens or a quieter machine")
    return sum(window.rate(begin, end) for window in windows)


def company(plan: Plan, clients: tuple[Client, ...], advance: Callable[[], object]) -> dict[str, Any]:
    """Alone, together, the other alone, together: each round one of them."""
    for client in clients:
        generate(client, SHORT, 4)  # warm up
    ratios: list[float] = []
    singles: list[float] = []
    sums: list[float] = []
    for index in range(plan.rounds):
        singles.append(alone(clients[index % len(clients)], plan.tokens))
        sums.append(together(clients, plan.tokens))
        ratios.append(sums[-1] / singles[-1])
        advance()
    return {
        "alone_tokens_s": round(statistics.median(singles), 2),
        "together_tokens_s": round(statistics.median(sums), 2),
        "together_of_alone": round(statistics.median(ratios), 4),
    }


def measure(plan: Plan, checkpoint: Path, cache: Path, advance: Callable[[], object]) -> dict[str, Any]:
    result: dict[str, Any] = {"first_start_s": round(start_s(plan, checkpoint, cache), 2)}
    advance()
    starts: list[float] = []
    for _ in range(plan.starts):
        starts.append(start_s(plan, checkpoint, cache))
        advance()
    result["start_s"] = round(statistics.median(starts), 3)
    with ExitStack() as stack:
        peers: list[LocalPeer] = []
        for _ in range(2):  # two swarms of one peer each
            peers.append(start(plan, checkpoint, cache))
            stack.callback(peers[-1].end)
            peers[-1].wait_ready(FIRST_START_S)
        clients = tuple(stack.enter_context(Client(swarm=peer.join)) for peer in peers)
        generate(clients[0], PROMPT, plan.tokens)
        pid = peers[0].process.pid
        result |= {"bytes": memory(pid), "p2pd_bytes": daemons_bytes(pid), "allowed_bytes": round(plan.allowed_bytes)}
        result |= company(plan, clients, advance)
    return result


def bars(plan: Plan, result: dict[str, Any]) -> Iterator[Bar]:
    resident = result["bytes"]["resident"] / plan.allowed_bytes
    yield Bar("resident memory, of 1.05 × INT8 bytes + KV + 300 MB", resident, 1.0, most=True)
    yield Bar("start to ready with weights on disk, s", result["start_s"], 3.0, most=True)
    what = f"two peers with {plan.threads} threads each, of one alone"
    yield Bar(what, result["together_of_alone"], 0.9)


def show(plan: Plan, result: dict[str, Any]) -> None:
    table = Table("memory", "MB", title=f"{plan.shape.name}, {plan.kv_tokens} tokens of KV")
    held = result["bytes"]
    for what, size in (
        ("INT8 bytes of the Span", plan.shape.weights),
        ("keys and values reserved", plan.kv_bytes),
        ("resident", held["resident"]),
        ("  of it mapped from files", held["mapped"]),
        ("  of it its own", held["own"]),
        ("allowed", plan.allowed_bytes),
        ("p2pd beside it", result["p2pd_bytes"]),
    ):
        table.add_row(what, f"{size / 1e6:.0f}")
    console().print(table)
    first, again = result["first_start_s"], result["start_s"]
    console().print(f"start to ready: {again:.2f} s (median of {plan.starts}); the very first {first:.1f} s")
    one, two = result["alone_tokens_s"], result["together_tokens_s"]
    console().print(f"one peer alone {one:.1f} tokens/s; two side by side {two:.1f} tokens/s together")


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory, start and company of a peer with a 1.1B model.")
    parser.add_argument("--dir", type=Path, default=cache_directory(), help="for the checkpoint (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    args = parser.parse_args()
    plan = Plan(rounds=2, starts=2) if args.quick else Plan()
    with progress() as bar:
        advance = stepper(bar, "random checkpoint", plan.shape.blocks)
        checkpoint = random_checkpoint(plan.shape, args.dir, advance=advance)
        result = measure(plan, checkpoint, args.dir / "spans", stepper(bar, "peers", 1 + plan.starts + plan.rounds))
    show(plan, result)
    conclude("footprint", list(bars(plan, result)), result)


if __name__ == "__main__":
    main()
