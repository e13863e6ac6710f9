"""``generate --trace FILE``: a picture of the median step for the terminal, all steps as a file for ui.perfetto.dev.

Both are drawn from ``trace.layout``, by the client's clock alone: a Hop's queueing and computing have lengths but no
moments of their own, so they are set one after the other, with the network's share of the step between them. Letters
and fill patterns carry the meaning; colours only help.

The file follows the Trace Event Format (Chrome): complete events (``ph`` X) in whole microseconds, a process for the
client and one for every Hop. Ends are rounded, not lengths, so the parts of a step add up to it exactly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from client.trace import HopTrace, Kind, StepTrace, Trace, layout, num_trips
from swarm.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDTH = 80
CLIENT = 1  # the client's process in the file; the Hops follow
STEPS, NETWORK = 1, 2  # the client's threads in the file
COMPUTE = 1  # a Hop's only one

_STYLES = {Kind.NETWORK: "dim", Kind.QUEUE: "yellow", Kind.COMPUTE: "green"}
_FILLS = {Kind.NETWORK: "╌", Kind.QUEUE: "░", Kind.COMPUTE: "█"}
_PLAIN = {Kind.NETWORK: "-", Kind.QUEUE: ":", Kind.COMPUTE: "#"}  # where the terminal knows no other letters
_SLIVER, _PLAIN_SLIVER = "▏", "|"  # there was some, about half a cell or less


def show(trace: Trace, file: TextIO | None = None) -> None:
    """Draw the median step, on stderr unless told otherwise: as wide as the terminal, but no wider than 80."""
    from rich.console import Console

    console = Console(file=file or sys.stderr, highlight=False, soft_wrap=True)
    step = trace.median_step()
    if step is None:
        console.print("no trace: the hops did not say where their time went")
    else:
        for line in _picture(trace, step, console):
            line.rstrip()
            console.print(line)


def check(path: Path) -> None:
    """Find out before a long generation whether its trace can be written; makes the file. Raises UsageError."""
    _write(path, "", "a")


def save(path: Path, trace: Trace) -> None:
    """Write the file. Raises UsageError."""
    note = "durations by the peers' clocks, laid out by the client's; network: the rest, spread evenly over the trips"
    other = {"shape": trace.shape, "note": note}
    document = {"traceEvents": events(trace), "displayTimeUnit": "ms", "otherData": other}
    _write(path, json.dumps(document, ensure_ascii=False) + "\n", "w")


def events(trace: Trace) -> list[dict[str, Any]]:
    """The file's events: names first, then steps in order, each before what it contains."""
    hops = dict.fromkeys((hop.peer, hop.blocks) for step in trace.steps for hop in step.hops)
    pids = {key: pid for pid, key in enumerate(hops, CLIENT + 1)}
    named = [*_names(CLIENT, "client", {STEPS: "steps", NETWORK: "network (even shares)"})]
    for (peer, blocks), pid in pids.items():
        named += _names(pid, f"{peer[:8]}[{blocks}]", {COMPUTE: "compute thread"})
    timed: list[dict[str, Any]] = []
    base_s = 0.0
    for step in trace.steps:
        own = [pids[hop.peer, hop.blocks] for hop in step.hops]
        timed += _step_events(trace, step, base_s, own)
        base_s += step.length_s
    return named + timed


def _step_events(trace: Trace, step: StepTrace, base_s: float, pids: list[int]) -> Iterator[dict[str, Any]]:
    def event(name: str, kind: str, pid: int, tid: int, start_s: float, end_s: float, **args: Any) -> dict[str, Any]:
        start_us, end_us = round((base_s + start_s) * 1e6), round((base_s + end_s) * 1e6)
        place = {"pid": pid, "tid": tid, "ts": start_us, "dur": end_us - start_us}
        return {"name": name, "cat": kind, "ph": "X", **place, "args": args}

    title = f"step {step.step}"
    told = {"tokens": step.tokens, "total_ms": _rounded(step.total_s)}
    if step.hops:
        told |= {"busy_ms": _rounded(step.busy_s), "network_ms": _rounded(step.network_s)}
    yield event(title, "step", CLIENT, STEPS, 0.0, step.length_s, **told)
    stretches = layout(step, trace.shape)
    for index, hop in enumerate(step.hops):
        mine = [stretch for stretch in stretches if stretch.hop == index]
        to, queue, compute, *back = mine
        yield event(f"to {_label(hop)}", "network", CLIENT, NETWORK, to.start_s, to.end_s)
        yield event(title, "hop", pids[index], COMPUTE, queue.start_s, compute.end_s)
        yield event("queue", "queue", pids[index], COMPUTE, queue.start_s, queue.end_s)
        yield event("compute", "compute", pids[index], COMPUTE, compute.start_s, compute.end_s)
        for trip in back:
            yield event("to the client", "network", CLIENT, NETWORK, trip.start_s, trip.end_s)


def _names(pid: int, process: str, threads: dict[int, str]) -> Iterator[dict[str, Any]]:
    yield {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": process}}
    yield {"name": "process_sort_index", "ph": "M", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    for tid, thread in threads.items():
        yield {"name": "thread_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": thread}}


def _picture(trace: Trace, step: StepTrace, console: Console) -> Iterator[Text]:
    from rich.text import Text

    fills, sliver = (_PLAIN, _PLAIN_SLIVER) if console.options.ascii_only else (_FILLS, _SLIVER)
    labels = [_label(hop) for hop in step.hops]
    trips = num_trips(trace.shape, len(step.hops))
    networks = [_share(step, trace, index) for index in range(len(step.hops))]
    table = [["network", "queue", "compute"]]
    table += [[_ms(n), _ms(h.queue_s), _ms(h.compute_s)] for n, h in zip(networks, step.hops, strict=True)]
    queue_s, compute_s = sum(hop.queue_s for hop in step.hops), sum(hop.compute_s for hop in step.hops)
    table.append([_ms(step.network_s), _ms(queue_s), _ms(compute_s)])
    columns = [max(len(row[column]) for row in table) + 1 for column in range(3)]
    first = max(len(label) for label in labels) + 1
    cells = max(10, min(WIDTH, console.width) - first - sum(columns))

    def row(label: str, bar: Text, numbers: list[str]) -> Text:
        bar.append(" " * (cells - len(bar)))
        cited = "".join(number.rjust(width) for number, width in zip(numbers, columns, strict=True))
        return Text.assemble(label.ljust(first), bar, cited)

    decodes, tokens = len(trace.decodes), f"{step.tokens} token{'s' * (step.tokens != 1)}"
    alone = "the prompt's" if step is trace.steps[0] else "the only one that was traced"
    among = f"the median of {decodes}" if decodes > 1 else alone
    yield Text(f"step {step.step}, {among}: {_ms(step.total_s)} ms for {tokens}", style="bold")
    end = f"{_ms(step.length_s)} ms"
    yield row("", Text("0" + end.rjust(cells - 1), style="dim"), table[0])
    for index, label in enumerate(labels):
        yield row(label, _bar(trace, step, index, cells, fills, sliver), table[index + 1])
    yield row("sum", Text(), table[-1])
    key = (f"{fills[kind] * 2} {kind.value}" for kind in (Kind.QUEUE, Kind.COMPUTE, Kind.NETWORK))
    yield Text("  ".join(key) + " and client, in milliseconds")
    hops = f"{len(labels)} hop{'s' * (len(labels) != 1)}"
    yield Text(f"{trace.shape} of {hops}: only the sum of the network is known, drawn as {trips} equal trips")
    if step is trace.steps[0]:
        yield Text("of a prompt that went in several parts, the hops report the last one only")
    if step.busy_s > step.total_s:
        yield Text(f"the hops report {_ms(step.busy_s)} ms, more than the client saw: some of it ran side by side")


def _bar(trace: Trace, step: StepTrace, hop: int, cells: int, fills: dict[Kind, str], sliver: str) -> Text:
    from rich.text import Text

    scale = cells / step.length_s if step.length_s else 0.0
    letters: list[tuple[str, str]] = [(" ", "")] * cells
    mine = [stretch for stretch in layout(step, trace.shape) if stretch.hop == hop]
    for stretch in sorted(mine, key=lambda stretch: list(Kind).index(stretch.kind)):  # nothing hides computing
        kind, start, end = stretch.kind, round(stretch.start_s * scale), round(stretch.end_s * scale)
        if start < end and (kind is Kind.NETWORK or (stretch.end_s - stretch.start_s) * scale >= 0.5):
            letters[start:end] = [(fills[kind], _STYLES[kind])] * (end - start)
        elif kind is not Kind.NETWORK and stretch.start_s < stretch.end_s:
            letters[min(start, cells - 1)] = (sliver, _STYLES[kind])
    return Text.assemble(*letters)


def _share(step: StepTrace, trace: Trace, hop: int) -> float:
    """The network's part in a Hop's row."""
    return sum(s.end_s - s.start_s for s in layout(step, trace.shape) if s.hop == hop and s.kind is Kind.NETWORK)


def _label(hop: HopTrace) -> str:
    return f"{hop.peer[:8]}[{hop.blocks}]"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def _rounded(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"the trace cannot be written to {path}: {error.strerror or error}") from error
