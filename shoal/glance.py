"""Glance: a Snapshot as something for a terminal of any width. Pure; knows neither where it comes from nor keys.

Every meaning is a word or a sign; colour only repeats it, so it may be missing (NO_COLOR, a file, an eye that does not
see it). What strangers wrote is plain already (``snapshot``) and is never read as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shoal.snapshot import Model, Peer, Snapshot

SPARKS = "▁▂▃▄▅▆▇█"
STATES = {"healthy": ("●", "green"), "fragile": ("▲", "yellow"), "broken": ("✗", "bold red")}
PEER_STATES = {"ready": "green", "joining": "cyan", "draining": "yellow", "gone": "dim", "silent": "bold red"}
NOBODY = "!"  # in the strip, where others have the number of replicas
MANY = "+"
OLD_S = 10.0  # a picture that may no longer be true
LOW = 18  # lines; below, peers need the room more than advice does
LISTED = 4  # ranges of Blocks in a sentence
BAR = 24  # columns of a peer's Span
COLUMN_OF = {"name": "peer", "span": "blocks", "speed": "tok/s", "sessions": "sess", "rtt": "rtt ms"}  # by order


@dataclass(frozen=True, slots=True)
class Order:
    """How peers are sorted."""

    by: str = "span"
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """All there is to show. ``age_s``: of the snapshot; ``trouble``: why there is no newer one."""

    snapshot: Snapshot | None
    source: str
    age_s: float = 0.0
    trouble: str = ""
    past: Sequence[float] = ()  # tokens/s, oldest first
    past_s: float = 0.0  # how long that took


SORTS: dict[str, Callable[[Peer], tuple[object, ...]]] = {
    "span": lambda peer: (peer.span, peer.id),
    "name": lambda peer: (peer.name.lower() or "\uffff", peer.id),
    "state": lambda peer: (_state(peer), peer.span),
    "speed": lambda peer: (-(peer.tokens_per_s or 0.0), peer.id),
    "sessions": lambda peer: (-peer.sessions, peer.id),
    "pages": lambda peer: (-(peer.pages_used / peer.pages if peer.pages else 0.0), peer.id),
    "rtt": lambda peer: (peer.rtt_ms is None, peer.rtt_ms or 0.0, peer.id),
    "age": lambda peer: (-peer.age_s, peer.id),
}


def draw(scene: Scene, width: int, height: int | None = None, order: Order | None = None) -> RenderableType:
    """``height`` None: as long as it takes; otherwise peers that find no room are counted."""
    order = order or Order()
    lines: list[RenderableType] = [_head(scene, width)]
    snapshot = scene.snapshot
    if snapshot is None:
        return Group(*lines, Text(scene.trouble or "joining the swarm …"))
    if not snapshot.models:
        lines += [
            Text("✗ nobody serves a model in this swarm now", "bold red"),
            Text("start a peer: shoal serve --join …"),
        ]
    helping = height is None or height >= LOW
    for model in snapshot.models:
        lines += [Text(), *_model(model, width, helping, whole=height is None)]
    lines += [Text(), _speed(scene, snapshot, width)]
    room = len(snapshot.peers)
    if height is not None:
        used = sum(_height(line, width) for line in lines) + 3
        room = max(1, height - used)
    if snapshot.peers:
        lines += [Text(), _peers(snapshot, width, order, room)]
    return Group(*lines)


def sentence(model: Model) -> str:
    """The state of a model in words: what an operator would say."""
    if model.gaps:
        return f"broken: nobody serves blocks {_some(model.gaps)}"
    if model.single:
        return f"fragile: one peer alone serves blocks {_some(model.single)}"
    if model.state == "healthy" and model.coverage:
        return f"healthy: every block has at least {min(model.coverage)} peers"
    return model.state


def strip(model: Model, width: int) -> tuple[Text, Text]:
    """Replicas of every Block, and below them a scale that marks the weakest. Where there are more Blocks than columns
    a column is the worst of several."""
    count = len(model.coverage)
    columns = max(1, min(count, width))
    edges = [column * count // columns for column in range(columns + 1)]
    wide = max(1, min(3, width // columns)) if columns == count else 1
    first, _, last = model.weakest.partition(":")
    weak = range(int(first), int(last)) if first.isdigit() and last.isdigit() else range(0)
    cells, scale = Text(no_wrap=True), [" "] * (columns * wide)
    for column, (start, end) in enumerate(pairwise(edges)):
        replicas = min(model.coverage[start:end], default=0)
        sign = NOBODY if replicas == 0 else str(replicas) if replicas < 10 else MANY
        style = "bold white on red" if replicas == 0 else "black on yellow" if replicas == 1 else "green"
        cells.append(sign.ljust(wide), style)
        if any(block in weak for block in range(start, end)):
            scale[column * wide : (column + 1) * wide] = "▲" * wide
    return cells, Text(
        "".join(scale).rstrip() + (" weakest" if "▲" in scale and len(scale) + 9 < width else ""), "dim", no_wrap=True
    )


def spark(values: Sequence[float], width: int) -> str:
    """The last ``width`` values; nothing is flat, and so is always the same."""
    shown = list(values)[-max(0, width) :] if width > 0 else []
    top = max(shown, default=0.0)
    return "".join(SPARKS[min(7, int(8 * value / top))] if top > 0 else SPARKS[0] for value in shown)


def _head(scene: Scene, width: int) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("shoal top", "bold")
    if scene.snapshot is not None and (scene.trouble or scene.age_s > OLD_S):
        text.append(f"  ▲ picture of {_ago(scene.age_s)} ago", "bold yellow")
        if scene.trouble:
            text.append(f": {scene.trouble}", "yellow")
        return text
    text.append(f"  {scene.source}", "dim")
    return text


def _model(model: Model, width: int, helping: bool, *, whole: bool) -> list[RenderableType]:
    """``whole``: on paper, where a command must stay one line to be copied."""
    sign, style = STATES.get(model.state, ("?", "bold"))
    head = Text.assemble((f"{sign} ", style), (model.name, "bold"), f" {sentence(model)}")
    if not model.coverage:
        return [head]
    left = f"{len(model.coverage)} blocks "
    cells, scale = strip(model, width - len(left))
    table = Table.grid()
    table.add_column(width=len(left), no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row(Text(left, "dim"), cells)
    table.add_row(Text("", "dim"), scale)
    lines: list[RenderableType] = [head, table]
    if helping and model.command and model.state != "healthy":
        asked = Text.assemble(("help: ", "dim"), model.command)
        asked.no_wrap, asked.overflow = (True, "ignore") if whole else (False, "fold")
        lines.append(asked)
    return lines


def _speed(scene: Scene, snapshot: Snapshot, width: int) -> Text:
    here = f"{snapshot.tokens_per_s:.1f} tokens/s  {_count(snapshot.sessions, 'session')}  "
    here += f"{snapshot.ready} of {_count(len([p for p in snapshot.peers if p.state != 'gone']), 'peer')} ready"
    text = Text(here, "bold")
    past = f"  last {_ago(scene.past_s)}"
    room = min(60, width - len(here) - len(past) - 2)
    if len(scene.past) > 1 and room >= 8:
        text.append(f"  {spark(scene.past, room)}", "cyan").append(past, "dim")
    return text


def _peers(snapshot: Snapshot, width: int, order: Order, room: int) -> Table:
    """The columns that fit, the most telling first."""
    blocks = max((len(model.coverage) for model in snapshot.models), default=0)
    columns: list[tuple[str, int, bool, Callable[[Peer], Text]]] = [
        ("peer", 14, False, lambda p: Text(p.name or p.id[:8])),
        ("blocks", 9, False, lambda p: Text(f"{p.span[0]}:{p.span[1]}")),
        ("state", 9, False, lambda p: Text(_state(p), PEER_STATES.get(_state(p), ""))),
        ("tok/s", 7, True, lambda p: Text("–" if p.tokens_per_s is None else f"{p.tokens_per_s:.1f}")),
        ("sess", 5, True, lambda p: Text(str(p.sessions))),
        ("rtt ms", 7, True, lambda p: Text("–" if p.rtt_ms is None else f"{p.rtt_ms:.1f}")),
        ("pages", 6, True, lambda p: Text(f"{100 * p.pages_used // p.pages} %" if p.pages else "–")),
        ("age", 5, True, lambda p: Text(f"{p.age_s:.0f} s")),
        ("where", BAR, False, lambda p: Text(_bar(p, blocks), "cyan")),
        ("queue", 6, True, lambda p: Text(str(p.queue_tokens))),
        ("version", 12, False, lambda p: Text(p.version)),
        ("profile", 9, False, lambda p: Text(p.profile)),
        ("id", 8, False, lambda p: Text(p.id[:8])),
    ]
    if len(snapshot.models) > 1:
        names = {model.fingerprint: model.name for model in snapshot.models}
        columns.insert(2, ("model", 12, False, lambda p: Text(names.get(p.model, p.model[:8]))))
    peers = sorted(snapshot.peers, key=SORTS[order.by], reverse=order.backwards)
    rows = [[cell(peer) for *_, cell in columns] for peer in peers[:room]]
    widths = [
        min(most, max(len(title) + 1, *(row[number].cell_len for row in rows)))
        for number, (title, most, *_) in enumerate(columns)
    ]
    fit = max(2, sum(sum(widths[: number + 1]) + number <= width for number in range(len(columns))))
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for (title, _, right, _), most in zip(columns[:fit], widths, strict=False):
        arrow = ("▴" if order.backwards else "▾") if title == COLUMN_OF.get(order.by, order.by) else ""
        table.add_column(
            title + arrow, max_width=most, no_wrap=True, overflow="ellipsis", justify="right" if right else "left"
        )
    for peer, row in zip(peers, rows, strict=False):
        table.add_row(*row[:fit], style="dim" if peer.state == "gone" else "")
    if len(peers) > room:
        table.caption = f"and {len(peers) - room} more"
        table.caption_justify = "left"
    return table


def _state(peer: Peer) -> str:
    """A peer that says it is ready but does not answer is silent."""
    return "silent" if peer.reachable is False and peer.state != "gone" else peer.state


def _bar(peer: Peer, blocks: int) -> str:
    if not blocks:
        return ""
    start, end = (min(BAR, edge * BAR // blocks) for edge in peer.span)
    end = max(end, min(BAR, start + 1))
    return "·" * start + "█" * (end - start) + "·" * (BAR - end)


def _some(ranges: Sequence[str]) -> str:
    more = f" and {len(ranges) - LISTED} more ranges" if len(ranges) > LISTED else ""
    return ", ".join(ranges[:LISTED]) + more


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _ago(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


def _height(line: RenderableType, width: int) -> int:
    if isinstance(line, Text):
        return 1 if line.no_wrap else max(1, -(-line.cell_len // max(1, width)))
    return 2
