"""How fast does one process decode and prefill TinyLlama-1.1B's shape, against the machine and against llama.cpp?

A random checkpoint of that shape (made once, in the user's cache directory or --dir: 2.2 GB, 3.4 GB for llama.cpp's
files, 1.1 GB for our packed weights). All 22 Blocks, embedding and Head, one process for each contestant and number
of threads, all loaded at once; they take turns, and the read bandwidth is measured between them.

The physics: a step reads every weight once, 1.03 bytes each, and the keys and values of its context: about 1.07 GB at
100 tokens. Those bytes by the bandwidth are the floor. A prompt of 512 tokens is 1.06e12 operations. **Python** is the
step of a model of as many Blocks with next to no arithmetic, an upper bound of what a step spends outside of kernels.

llama.cpp computes the same weights as Q8_0 (1.06 bytes a weight) and BF16, through llama-cpp-python, an extra for
benchmarks (``pip install -e '.[bench]'``); without it its columns are left out.

    python -m benchmarks.decode [--threads 1 2] [--dir DIR] [--quick]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from benchmarks.kit.checkpoint import cache_directory, random_checkpoint
from benchmarks.kit.clock import Samples, Seconds, stepper, take_turns
from benchmarks.kit.gguf_export import Format, can_export, gguf_file
from benchmarks.kit.llama_worker import can_run
from benchmarks.kit.report import Bar, conclude, console, progress
from benchmarks.kit.shapes import BORDER, LLAMA_1B, LlamaShape
from benchmarks.kit.workers import Worker

OURS = "shoal c8"
FORMATS: tuple[Format, ...] = ("Q8_0", "BF16")
TENSORS_A_BLOCK, TENSORS_BESIDE = 9, 3
Made = tuple[Path, Path, Mapping[str, Path]]
AGAINST_Q8 = {1: 1.4, 2: 1.1}  # by threads


@dataclass(frozen=True)
class Plan:
    shape: LlamaShape = LLAMA_1B
    rounds: int = 7
    prefill_rounds: int = 3
    steps: int = 16
    contexts: tuple[int, int] = (100, 2000)
    prompts: tuple[int, ...] = (128, 512)

    @property
    def tokens(self) -> int:
        """The longest text."""
        return max(*self.contexts, *self.prompts) + 2 * self.steps


@dataclass
class Findings:
    """Of one number of threads; rates in tokens a second."""

    threads: int
    about: dict[str, Any] = field(default_factory=dict)
    read_gb_s: float = 0.0
    of_floor: dict[str, float] = field(default_factory=dict)  # by context
    kept_at_context: float = 0.0
    python_share: float = 0.0
    decode: dict[str, dict[str, float]] = field(default_factory=dict)  # contestant, then context
    prefill: dict[str, dict[str, float]] = field(default_factory=dict)  # contestant, then prompt
    faster: dict[str, dict[str, float]] = field(default_factory=dict)  # than a contestant, by discipline


def prepare(plan: Plan, home: Path, formats: tuple[Format, ...], bar: Progress) -> Made:
    """The checkpoint, the one that is all border, and its GGUF files; whatever is not there is made."""
    checkpoint = random_checkpoint(plan.shape, home, advance=stepper(bar, "random checkpoint", plan.shape.blocks))
    tensors = plan.shape.blocks * TENSORS_A_BLOCK + TENSORS_BESIDE
    files: dict[str, Path] = {
        form: gguf_file(checkpoint, form, stepper(bar, f"GGUF, {form}", tensors)) for form in formats
    }
    for task in bar.task_ids:
        bar.remove_task(task)
    return checkpoint, random_checkpoint(BORDER, home), files


def measure(threads: int, plan: Plan, home: Path, made: Made, bar: Progress) -> Findings:
    checkpoint, border, files = made
    advance = stepper(bar, _at(threads), plan.rounds + 1 + len(plan.prompts) * (plan.prefill_rounds + 1))
    with ExitStack() as stack:
        cache = str(home / "spans")
        ours = stack.enter_context(_ours(checkpoint, cache, threads, plan.tokens))
        empty = stack.enter_context(_ours(border, cache, 1, plan.tokens))
        llamas = {form: stack.enter_context(_llama(path, threads, plan.tokens)) for form, path in files.items()}
        found = Findings(threads, {name: worker.ask("about") for name, worker in {OURS: ours, **llamas}.items()})
        _decode(plan, found, ours, empty, llamas, advance)
        _prefill(plan, found, {OURS: ours, **llamas}, advance)
    return found


def _decode(
    plan: Plan,
    found: Findings,
    ours: Worker,
    empty: Worker,
    llamas: Mapping[str, Worker],
    advance: Callable[[], object],
) -> None:
    near, far = plan.contexts
    contestants: dict[str, Seconds] = {
        "near": _asking(ours, "decode", context=near, steps=plan.steps),
        "read": _asking(ours, "read"),
        "far": _asking(ours, "decode", context=far, steps=plan.steps),
        "empty": _asking(empty, "decode", context=near, steps=plan.steps),
    }
    for form, worker in llamas.items():
        contestants[form] = _asking(worker, "decode", context=near, steps=plan.steps)
    taken = take_turns(contestants, plan.rounds, advance)
    found.read_gb_s = round(1e-9 / taken.median("read"), 2)
    for context, name in ((near, "near"), (far, "far")):
        share = taken.speed(name, "read") * plan.shape.step_bytes(context)
        found.of_floor[str(context)] = round(share, 4)
    found.kept_at_context = round(taken.speed("far", "near"), 4)
    found.python_share = round(taken.median("empty") / taken.median("near"), 4)
    found.decode[OURS] = {str(near): _rate(taken, "near"), str(far): _rate(taken, "far")}
    for form in llamas:
        found.decode[form] = {str(near): _rate(taken, form)}
        found.faster.setdefault(form, {})[f"decode at {near}"] = round(taken.speed("near", form), 3)


def _prefill(plan: Plan, found: Findings, workers: dict[str, Worker], advance: Callable[[], object]) -> None:
    for prompt in plan.prompts:
        contestants = {name: _asking(worker, "prefill", tokens=prompt) for name, worker in workers.items()}
        taken = take_turns(contestants, plan.prefill_rounds, advance)
        for name in workers:
            found.prefill.setdefault(name, {})[str(prompt)] = round(prompt / taken.median(name), 1)
            if name != OURS:
                found.faster[name][f"prefill of {prompt}"] = round(taken.speed(OURS, name), 3)


def bars(plan: Plan, found: Findings) -> Iterator[Bar]:
    at, near, far = _at(found.threads), *plan.contexts
    yield Bar(f"decode, {at}: of bandwidth / bytes per token", found.of_floor[str(near)], 0.85)
    yield Bar(f"decode, {at}: at {far} tokens of context, of that at {near}", found.kept_at_context, 0.85)
    yield Bar(f"decode, {at}: Python's share of a step", found.python_share, 0.05, most=True)
    if found.faster and found.threads in AGAINST_Q8:
        ratio = found.faster["Q8_0"][f"decode at {near}"]
        yield Bar(f"decode, {at}: times llama.cpp's Q8_0", ratio, AGAINST_Q8[found.threads])
    for form, bar in (("Q8_0", 2.0), ("BF16", 1.0)):
        if form in found.faster:
            prompt = max(plan.prompts)
            ratio = found.faster[form][f"prefill of {prompt}"]
            yield Bar(f"prefill of {prompt}, {at}: times llama.cpp's {form}", ratio, bar)


def show(plan: Plan, found: Findings) -> None:
    title = f"{_at(found.threads)}, {found.about[OURS]['isa']}; plain reading {found.read_gb_s:.1f} GB/s"
    disciplines = [*(f"decode at {context}" for context in plan.contexts), *(f"prefill of {n}" for n in plan.prompts)]
    table = Table("tokens/s (ours against it)", *disciplines, title=title)
    for name in found.decode:
        rates = {f"decode at {context}": rate for context, rate in found.decode[name].items()}
        rates |= {f"prefill of {prompt}": rate for prompt, rate in found.prefill[name].items()}
        ratios = found.faster.get(name, {})
        cells = [
            "" if what not in rates else f"{rates[what]:.1f}" + (f" ({ratios[what]:.2f}×)" if what in ratios else "")
            for what in disciplines
        ]
        table.add_row(name if name == OURS else f"llama.cpp {name}", *cells)
    floor = [f"{found.read_gb_s * 1e9 / plan.shape.step_bytes(context):.1f}" for context in plan.contexts]
    table.add_row("bandwidth / bytes a token", *floor)
    console().print(table)
    near, far = (f"{100 * found.of_floor[str(context)]:.1f} %" for context in plan.contexts)
    share = f"{100 * found.python_share:.2f} %"
    console().print(
        f"of the floor: {near} at {plan.contexts[0]}, {far} at {plan.contexts[1]}; Python ≤ {share} of a step"
    )


def _ours(checkpoint: Path, cache: str, threads: int, tokens: int) -> Worker:
    return Worker("benchmarks.kit.shoal_worker", str(checkpoint), cache, str(threads), str(tokens))


def _llama(path: Path, threads: int, tokens: int) -> Worker:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}  # it may spin as it likes
    return Worker("benchmarks.kit.llama_worker", str(path), str(threads), str(tokens), env=env)


def _asking(worker: Worker, function: str, **arguments: Any) -> Seconds:
    return lambda: worker.ask(function, **arguments)


def _rate(taken: Samples, name: str) -> float:
    return round(1 / taken.median(name), 2)


def _at(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode and prefill of a 1.1B model in one process.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dir", type=Path, default=cache_directory(), help="for the checkpoint (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    args = parser.parse_args()
    plan = Plan(rounds=3, prefill_rounds=1) if args.quick else Plan()
    formats = FORMATS if can_export() and can_run() else ()
    with progress() as bar:
        made = prepare(plan, args.dir, formats, bar)
        found = [measure(threads, plan, args.dir, made, bar) for threads in args.threads]
    for findings in found:
        show(plan, findings)
    if not formats:
        console().print("llama-cpp-python and gguf are not installed (extra bench): no comparison with llama.cpp")
    step_bytes = {str(context): round(plan.shape.step_bytes(context)) for context in plan.contexts}
    result = {"rounds": plan.rounds, "step_bytes": step_bytes, "threads": [vars(findings) for findings in found]}
    conclude("decode", [bar for findings in found for bar in bars(plan, findings)], result)


if __name__ == "__main__":
    main()
