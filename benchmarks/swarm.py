"""How fast does a swarm on this machine generate, and how long does the loss of a peer stall it?

The sample model (24 Blocks, hidden 128) through one peer and through three, one thread each, all on loopback;
transformers in one process with one thread is the yardstick. The physics: a step passes every Block once, so a token
costs the same arithmetic however many peers share it, plus, in the ring that a client takes by itself, one way a Hop.
Medians of three. ``failover`` has the stalls of every shape, Hop and signal.

    python -m benchmarks.swarm
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.kit.driving import COMMON, SAMPLE
from client import Client
from peer.local import LocalSwarm

PROMPT = "def parse_args(self, args=None):\n"
TOKENS, RUNS = 64, 3


def median(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    measure()  # warm up
    runs = [measure() for _ in range(RUNS)]
    return {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0]}


def through(client: Client) -> dict[str, float]:
    result = client.generate(PROMPT, max_new_tokens=TOKENS, ignore_eos=True)
    return {"ttft_s": result.ttft_s, "tokens_per_s": result.tokens_per_s}


def yardstick() -> dict[str, float]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(SAMPLE)
    model: Any = AutoModelForCausalLM.from_pretrained(SAMPLE, dtype=torch.float32)
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids

    def run() -> dict[str, float]:
        times: list[float] = []
        for tokens in (1, TOKENS):
            begun = time.perf_counter()
            with torch.inference_mode():
                model.generate(
                    ids, attention_mask=torch.ones_like(ids), pad_token_id=0, do_sample=False,
                    max_new_tokens=tokens, min_new_tokens=tokens,
                )  # fmt: skip
            times.append(time.perf_counter() - begun)
        return {"ttft_s": times[0], "tokens_per_s": (TOKENS - 1) / (times[1] - times[0])}

    return median(run)


def stall_s(how: str) -> float:
    """The longest gap between two tokens when the second Hop is lost after 20 of them."""
    gaps: list[float] = []
    for _ in range(RUNS):
        with LocalSwarm(*COMMON) as swarm:
            swarm.start(["0:12", "12:24", "12:24"])
            with Client(swarm=swarm.join) as client:
                last, longest = time.perf_counter(), 0.0
                for count, piece in enumerate(client.stream(PROMPT, max_new_tokens=40, ignore_eos=True)):
                    now = time.perf_counter()
                    longest, last = max(longest, now - last) if count > 1 else 0.0, now
                    if count == 20:
                        victim = piece.route[-1]["peer"]
                        getattr(next(p for p in swarm.peers if p.peer_id == victim), how)()
                gaps.append(longest)
    return round(statistics.median(gaps), 3)


def main() -> None:
    rows: dict[str, dict[str, float]] = {"transformers f32, in process": yardstick()}
    for profile in ("c8", "f32"):
        for spans in (["0:24"], ["0:8", "8:16", "16:24"]):
            with LocalSwarm(*COMMON, "--profile", profile) as swarm:
                swarm.start(spans)
                with Client(swarm=swarm.join) as client:
                    rows[f"{profile}, {len(spans)} peer{'s' * (len(spans) > 1)}"] = median(lambda c=client: through(c))
    stalls = {"stall_kill_s": stall_s("kill"), "stall_freeze_s": stall_s("freeze")}

    table = Table("system", "first token, ms", "tokens/s", "against transformers")
    base = next(iter(rows.values()))["tokens_per_s"]
    for name, row in rows.items():
        table.add_row(
            name, f"{row['ttft_s'] * 1e3:.0f}", f"{row['tokens_per_s']:.1f}", f"{row['tokens_per_s'] / base:.2f}×"
        )
    Console().print(table)
    kill_s, freeze_s = stalls["stall_kill_s"], stalls["stall_freeze_s"]
    print(f"longest stall when a hop is killed {kill_s} s, frozen {freeze_s} s")
    print(json.dumps({"benchmark": "swarm", "tokens": TOKENS, "runs": RUNS, **stalls, "systems": rows}))


if __name__ == "__main__":
    main()
