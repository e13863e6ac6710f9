"""``shoal doctor``: looks at this machine, its network and the swarm one wants to join, and says what to mend.

Knows the order of the checks and how Findings look; what is checked is in ``checks_*``. Everything has a deadline, and
nothing is changed: what it starts (a listener, a p2p daemon) is gone when it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from client.terminal import Parser, command
from peer.config import LOOPBACK, default_cache
from shoal.finding import STATES, Check, Finding, State, examine, mend
from swarm.address import SWARM_VARIABLE, Address, read_swarm

ASKED_S = 20.0
SLOW_S = 60.0  # torch from a cold disk; a swarm with many peers of which none answers
NARROW = 60  # columns; below, what was found stands under the check's name

MARKS: dict[State, tuple[str, str]] = {
    "ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red"), "skipped": ("–", "dim"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be looked at."""

    join: tuple[str, ...] = ()
    listen: Address | None = None  # None: this machine is not meant to serve others, as far as is known
    dht_listen: Address | None = None
    announce: Address | None = None
    cache: Path | None = None
    device: str = "cpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 nothing has to be mended, 1 something has, 2 bad usage, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    return command(lambda: _run(_wish(arguments), as_json=arguments.json))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "shoal doctor",
        description="Check this machine, its network and a swarm, and say what to mend. Changes nothing.",
        epilog="Exit status: 0 nothing has to be mended (warnings are no reason), 1 something has, 2 bad usage.",
    )
    parser.add_argument(
        "--join", nargs="+", action="extend", metavar="MADDR",
        help=f"look at this swarm too: addresses that peers print under \"join\" (default: ${SWARM_VARIABLE})",
    )  # fmt: skip
    parser.add_argument("--listen", metavar="HOST:PORT", help="where a peer here would listen")
    parser.add_argument("--dht-listen", metavar="HOST:PORT", help="and for the DHT (default: any port of that host)")
    parser.add_argument("--announce", metavar="HOST:PORT", help="how others would reach it")
    parser.add_argument("--cache", metavar="DIR", help="where quantised weights would be kept")
    parser.add_argument("--device", metavar="cpu|cuda", default="cpu", help="what would compute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a picture")
    return parser


def _wish(arguments: argparse.Namespace) -> Wish:
    """Raises UsageError."""

    def address(name: str) -> Address | None:
        text = getattr(arguments, name)
        return None if text is None else Address.parse(text, f"--{name.replace('_', '-')}")

    from peer.config import PeerConfig

    wish = Wish(
        read_swarm(arguments.join), address("listen"), address("dht_listen"), address("announce"),
        Path(arguments.cache).expanduser() if arguments.cache else None, arguments.device,
    )  # fmt: skip
    PeerConfig(announce=wish.announce, device=wish.device)  # checks what a peer would
    return wish


def _run(wish: Wish, *, as_json: bool) -> int:
    found: list[Finding] = []
    console = Console(highlight=False)
    progress = Console(stderr=True)
    for title, checks in rooms(wish):
        if not as_json:
            console.print(Text(f"\n{title}", "bold"))
        for check in checks:
            if progress.is_terminal and console.is_terminal:
                with progress.status(Text(f"{check.doing} …")):
                    some = examine(check)
            else:
                some = examine(check)
            found += some
            for finding in some if not as_json else ():
                if console.is_terminal:
                    console.print(drawn(finding, console.width))
                else:
                    print(*written(finding), sep="\n", flush=True)
    if as_json:
        print(json.dumps({"ok": not mend(found), "checks": [asdict(finding) for finding in found]}))
    else:
        console.print(Text(f"\n{verdict(found)}", "bold"))
    return 1 if mend(found) else 0


def rooms(wish: Wish) -> Iterator[tuple[str, list[Check]]]:
    """All checks, by what they look at, in the order in which they make sense."""
    yield "this machine", list(_machine(wish))
    yield "its network", list(_network(wish))
    if wish.join:
        yield "the swarm", [Check("swarm", "looking at the swarm", SLOW_S, lambda: _swarm(wish))]


def _machine(wish: Wish) -> Iterator[Check]:
    from peer.capacity import free_bytes
    from shoal import checks_machine as machine
    from shoal import checks_software as software

    built: list[bool] = []  # known once the kernels were looked at

    def kernels() -> Finding:
        finding = software.kernels()
        built.append(finding.state != "fail")
        return finding

    yield Check("python", "looking at Python", ASKED_S, software.python)
    yield Check("packages", "looking at packages", ASKED_S, software.packages)
    yield Check("kernels", "computing a tiny block", SLOW_S, kernels)
    yield Check("compiler", "looking for a compiler", ASKED_S, lambda: software.compiler(any(built)))
    if wish.device != "cpu":
        yield Check("device", f"computing on {wish.device}", SLOW_S, lambda: software.device(wish.device))
    yield Check("processor", "looking at the processor", ASKED_S, machine.processor)
    yield Check("memory", "looking at memory", ASKED_S, machine.memory)
    yield Check("huge pages", "looking at memory", ASKED_S, machine.huge_pages)
    yield Check("bandwidth", "reading memory", ASKED_S, lambda: machine.bandwidth(free_bytes()))
    cache = wish.cache or default_cache()
    yield Check("weight cache", "looking at the disk", ASKED_S, lambda: machine.weight_cache(cache))
    yield Check("temporary files", "looking at the disk", ASKED_S, machine.temporary_files)
    yield Check("open files", "looking at limits", ASKED_S, machine.open_files)
    yield Check("address space", "looking at limits", ASKED_S, machine.address_space)
    yield Check("clock", "looking at the clock", ASKED_S, machine.clock)


def _network(wish: Wish) -> Iterator[Check]:
    from shoal import checks_network as network

    listen = wish.listen or LOOPBACK
    dht_listen = wish.dht_listen or Address(listen.host, 0)
    yield Check("listen port", "trying the port", ASKED_S, waited(lambda: network.port("listen port", listen)))
    yield Check("DHT port", "trying the DHT's port", ASKED_S, waited(lambda: network.port("DHT port", dht_listen)))
    if wish.listen is not None or wish.announce is not None:
        yield Check(
            "announced address", "calling myself", ASKED_S, waited(lambda: network.announced(listen, wish.announce))
        )
    yield Check("p2p daemon", "starting the p2p daemon", SLOW_S, waited(network.daemon))


def _swarm(wish: Wish) -> list[Finding]:
    from shoal import checks_swarm

    dht_listen = wish.dht_listen or (None if wish.listen is None else Address(wish.listen.host, 0))
    found = asyncio.run(checks_swarm.survey(wish.join, dht_listen, wish.announce))
    return checks_swarm.judge(found, wish.join, wish.listen)


def waited(check: Callable[[], Coroutine[object, object, Finding]]) -> Callable[[], Finding]:
    """A check that does I/O, as one that does not look like it."""
    return lambda: asyncio.run(check())


def drawn(finding: Finding, width: int) -> Table | Padding:
    """A mark and a word, never colour alone. Text from outside is never read as markup."""
    mark, style = MARKS[finding.state]
    head = Text(f"{mark} {finding.state}", style)
    said = Text(finding.found)
    if finding.advice:
        said.append(f"\n→ {finding.advice}", "yellow" if finding.state == "warn" else "red")
    if width < NARROW:
        table = Table.grid(padding=(0, 1))
        table.add_row(head, Text(finding.check, "bold"))
        whole = Table.grid()
        whole.add_column(overflow="fold")
        whole.add_row(table)
        whole.add_row(Padding(said, (0, 0, 0, 2)))
        return whole
    table = Table.grid(padding=(0, 1))
    table.add_column(width=9, no_wrap=True)
    table.add_column(width=17, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(head, Text(finding.check, "bold"), said)
    return table


def written(finding: Finding) -> Iterator[str]:
    """The same for a file or a pipe: a Finding is a line, its advice another."""
    yield f"{finding.state:8} {finding.check:17} {finding.found}"
    if finding.advice:
        yield f"{'':26} → {finding.advice}"


def verdict(findings: Sequence[Finding]) -> str:
    count = {state: sum(finding.state == state for finding in findings) for state in STATES}
    if count["fail"]:
        return f"{count['fail']} to mend, {count['warn']} to look at, {count['ok']} well"
    if count["warn"]:
        return f"Nothing has to be mended; {count['warn']} to look at, {count['ok']} well"
    return "All is well"


if __name__ == "__main__":
    sys.exit(main())
