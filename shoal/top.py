"""``shoal top``: a swarm at one glance, in a terminal. Knows options, keys and the pace; ``glance`` draws.

On a terminal it stays until q or Ctrl-C; elsewhere, and with ``--once``, it prints one picture and ends. When the swarm
is lost the last picture stays, with its age.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.live import Live

from client.terminal import INTERRUPTED, Parser, command
from shoal.glance import SORTS, Order, Scene, draw
from shoal.plain import plain
from shoal.snapshot import Snapshot, read_snapshot
from shoal.sources import Source, of_swarm, of_url
from swarm.address import SWARM_VARIABLE, read_swarm
from swarm.errors import ShoalError, UsageError

EVERY_S = 1.0  # a picture is drawn
ASK_EVERY_S = 2.0
PAST_EVERY_S = 10.0
STEP_S = 10.0  # of the past
SETTLE_S = 2.5  # a single picture waits for speeds and round trips


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 2 bad usage, 4 no swarm to be seen, 5 no picture there, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    return command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "shoal top",
        description="Watch a swarm in the terminal: its state, its blocks, its peers, its speed.",
        epilog="Keys: q leaves, s sorts by the next column, r turns the order round. "
        "Without a terminal it prints one picture.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--join", nargs="+", action="extend", metavar="MADDR",
        help=f"look at the swarm itself: addresses that peers print under \"join\" (default: ${SWARM_VARIABLE})",
    )  # fmt: skip
    where.add_argument("--url", metavar="URL", help="or at what a dashboard or gateway there shows")
    parser.add_argument("--once", action="store_true", help="print one picture and leave")
    parser.add_argument("--json", action="store_true", help="as --once, the picture as one line of JSON")
    parser.add_argument("--sort", choices=SORTS, default="span", help="peers (default: span)")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False)
    order = Order(arguments.sort, arguments.reverse)
    live = console.is_terminal and not console.is_dumb_terminal and not arguments.once and not arguments.json
    source = _source(arguments, 0.0 if live else SETTLE_S)
    if live:
        return asyncio.run(_watch(source, console, order))
    return asyncio.run(_once(source, console, order, as_json=arguments.json))


def _source(arguments: argparse.Namespace, settle_s: float) -> AbstractAsyncContextManager[Source]:
    """Raises UsageError."""
    if arguments.url is not None:
        return of_url(arguments.url)
    join = read_swarm(arguments.join)
    if not join:
        raise UsageError(
            f"no swarm is named; give --join an address that a peer prints (or set {SWARM_VARIABLE}), or --url"
        )
    return of_swarm(join, settle_s)


async def _once(source: AbstractAsyncContextManager[Source], console: Console, order: Order, *, as_json: bool) -> int:
    async with source as there:
        body = await there.body()
        snapshot = read_snapshot(body)
        if as_json:
            print(json.dumps(body))
            return 0
        past = await _past(there)
    scene = Scene(snapshot, plain(there.name, 160), past=past, past_s=len(past) * STEP_S)
    console.print(draw(scene, console.width, None, order), crop=False)
    return 0


async def _watch(source: AbstractAsyncContextManager[Source], console: Console, order: Order) -> int:
    """Until told to leave. The terminal is as it was when this returns, whatever happens."""
    screen = Screen(order)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, screen.leave)
    loop.add_signal_handler(signal.SIGINT, screen.interrupt)
    with suppress(NotImplementedError, ValueError):
        loop.add_signal_handler(signal.SIGWINCH, screen.changed.set)
    first = asyncio.create_task(_follow(source, screen), name="follow")
    left = asyncio.create_task(screen.left.wait())
    with keys(screen), Live(console=console, screen=True, auto_refresh=False) as live:
        while not screen.left.is_set() and not first.done():
            screen.changed.clear()
            width, height = console.size
            live.update(draw(screen.scene(), width, height, screen.order), refresh=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await screen.changed.wait()
    left.cancel()
    if first.done():
        first.result()  # raises what it failed with: there never was a picture
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    return screen.status


async def _follow(source: AbstractAsyncContextManager[Source], screen: Screen) -> None:
    """Asks for pictures for ever. Raises where there is not even a first one."""
    async with source as there:
        screen.take(await there.body(), there.name)
        past_at = -PAST_EVERY_S
        while True:
            now = time.monotonic()
            if now - past_at >= PAST_EVERY_S:
                screen.past, past_at = await _past(there), now
            await asyncio.sleep(ASK_EVERY_S)
            try:
                screen.take(await there.body(), there.name)
            except ShoalError as error:
                screen.trouble = plain(str(error), 160)
                screen.changed.set()


async def _past(source: Source) -> tuple[float, ...]:
    """The past is a courtesy: a source without one is shown all the same."""
    try:
        return await source.past()
    except ShoalError:
        return ()


class Screen:
    """What is to be seen, and what was typed."""

    def __init__(self, order: Order):
        self.order = order
        self.status = 0
        self.trouble = ""
        self.past: tuple[float, ...] = ()
        self.changed, self.left = asyncio.Event(), asyncio.Event()
        self._snapshot: Snapshot | None = None
        self._name = ""
        self._taken_at = 0.0

    def scene(self) -> Scene:
        age_s = time.monotonic() - self._taken_at if self._snapshot is not None else 0.0
        return Scene(self._snapshot, self._name, age_s, self.trouble, self.past, len(self.past) * STEP_S)

    def take(self, body: Any, name: str) -> None:
        """A new picture. Raises BadRequest where it is none."""
        self._snapshot = read_snapshot(body)
        self._name, self._taken_at, self.trouble = plain(name, 160), time.monotonic(), ""
        self.changed.set()

    def type(self, key: str) -> None:
        names = list(SORTS)
        if key in ("q", "Q"):
            self.leave()
        elif key == "s":
            self.order = Order(names[(names.index(self.order.by) + 1) % len(names)], self.order.backwards)
        elif key == "r":
            self.order = Order(self.order.by, not self.order.backwards)
        self.changed.set()

    def leave(self) -> None:
        self.left.set()
        self.changed.set()

    def interrupt(self) -> None:
        self.status = INTERRUPTED
        self.leave()


@contextmanager
def keys(screen: Screen) -> Generator[None]:
    """Single keys reach ``screen`` as they are typed, where there is a keyboard."""
    try:
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (ImportError, OSError, ValueError, AttributeError):  # no terminal to type at
        yield
        return
    loop = asyncio.get_running_loop()

    def typed() -> None:
        pressed = os.read(descriptor, 64).decode(errors="replace")
        if not pressed:  # the keyboard is gone
            loop.remove_reader(descriptor)
        for key in pressed if not pressed.startswith("\x1b") else ():
            screen.type(key)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, typed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


if __name__ == "__main__":
    sys.exit(main())
