"""What a benchmark says at its end: tables for people, bars met or missed, one JSON line last. Measures nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.kit.machine import machine

_WIDTH = 132  # where nobody's terminal says otherwise


@dataclass(frozen=True)
class Bar:
    """A bar of the design and what was reached. ``most``: it must not be exceeded."""

    what: str
    value: float
    bar: float
    most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.bar if self.most else self.value >= self.bar

    def as_json(self) -> dict[str, Any]:
        relation = "at_most" if self.most else "at_least"
        return {"what": self.what, "value": round(self.value, 4), relation: self.bar, "met": self.met}


def console() -> Console:
    """For tables and sentences. A file has no width of its own."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def progress() -> Progress:
    """On stderr, gone when it is done; silent where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    watched = Console(stderr=True)
    return Progress(*columns, console=watched, transient=True, disable=not watched.is_terminal)


def conclude(benchmark: str, bars: list[Bar], result: dict[str, Any]) -> None:
    """The table of bars, then everything as one JSON line, the last of the output."""
    if bars:
        table = Table("bar", "measured", "asked for", "", title="bars")
        for bar in bars:
            asked = f"{'≤' if bar.most else '≥'} {bar.bar:g}"
            table.add_row(bar.what, f"{bar.value:.3g}", asked, "met" if bar.met else "[bold]missed[/bold]")
        console().print(table)
    line = {"benchmark": benchmark, **result, "bars": [bar.as_json() for bar in bars], **machine()}
    print(json.dumps(line), flush=True)
