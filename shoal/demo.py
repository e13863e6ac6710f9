"""``shoal demo``: three peers on this machine, one sentence, one SIGKILL in the middle of it.

Shows what a user of a real swarm would see: the route, the text as it comes, tokens a second, the loss and the repair;
and then generates the same again without the lost peer to show that the loss changed nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from client import Client, Options, Piece, Result
from peer.local import LocalPeer, LocalSwarm
from swarm.errors import ShoalError

SPANS = ("0:12", "12:24", "6:24")
PROMPT = 'class Queue:\n    """A queue of items.\n'
TOKENS, KILL_AT = 80, 30
# Sampling is as repeatable as greedy decoding: what is drawn depends on seed and position alone.
SAMPLING: Options = {
    "max_new_tokens": TOKENS,
    "ignore_eos": True,
    "temperature": 0.7,
    "top_p": 0.95,
    "repetition_penalty": 1.1,
    "seed": 7,
}


class Scene:
    """What is on the screen while the text comes. Renders itself; rich asks for it several times a second."""

    def __init__(self, swarm: LocalSwarm):
        self.swarm = swarm
        self.text = PROMPT
        self.tokens = 0
        self.begun: float | None = None
        self.events: list[str] = []
        self.piece: Piece | None = None

    def take(self, piece: Piece) -> None:
        self.begun = self.begun or time.monotonic()
        self.text += piece.text
        self.tokens += len(piece.token_ids)
        if self.piece is not None and piece.failovers > self.piece.failovers:
            self.events.append(f"token {self.tokens}: the session went on over {piece.route_text}")
        self.piece = piece

    def __rich__(self) -> Panel:
        return Panel(
            Group(self._peers(), Syntax(self.text, "python", background_color="default"), self._foot()),
            title="shoal demo",
        )

    def _peers(self) -> Table:
        table = Table("peer", "serves", "state", "on the route for", box=None, padding=(0, 2))
        for peer in self.swarm.peers:
            used = [leg for leg in (self.piece.route if self.piece else []) if leg["peer"] == peer.peer_id]
            alive = peer.process.poll() is None
            state = Text("● serving", "green") if alive else Text("✗ killed", "red")
            blocks = f"blocks {used[0]['blocks'][0]}:{used[0]['blocks'][1]}" if used and alive else "–"
            start, end = peer.ready["blocks"]
            table.add_row(peer.peer_id[:8], f"{start}:{end}", state, blocks)
        return table

    def _foot(self) -> Text:
        seconds = time.monotonic() - self.begun if self.begun else 0.0
        speed = (
            f"{(self.tokens - 1) / seconds:.1f} tokens/s"
            if self.tokens > 1 and seconds
            else "waiting for the first token"
        )
        return Text("\n".join([f"{self.tokens}/{TOKENS} tokens, {speed}", *self.events]), "dim")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="shoal demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompt", default=PROMPT, help="what the text begins with (default: the head of a class)")
    args = parser.parse_args(argv)
    console = Console()
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal must not leave three peers behind
        signal.signal(number, _leave)
    try:
        with LocalSwarm("--threads", "1", "--log-level", "warning") as swarm:
            return _play(console, swarm, args.prompt)
    except ShoalError as error:
        print(f"shoal: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _play(console: Console, swarm: LocalSwarm, prompt: str) -> int:
    with console.status("starting three peers on this machine …"):
        begun = time.monotonic()
        swarm.start(SPANS)
    console.print(f"three peers are ready after {time.monotonic() - begun:.1f} s; one swarm, no coordinator")
    with Client(swarm=swarm.join) as client:
        result = _generate_and_lose_a_peer(console, swarm, client, prompt)
        again = client.generate(prompt, **SAMPLING)
    same = again.token_ids == result.token_ids
    verdict = "[green]identical, token for token[/]" if same else "[red]different[/]"
    console.print(f"the same prompt again, undisturbed, over {again.route_text}: {verdict}")
    with console.status("ending the swarm …"):
        survivors = [peer for peer in swarm.peers if peer.process.poll() is None]
        statuses = [peer.terminate() for peer in survivors]
    console.print(f"the other {len(survivors)} peers drained and ended with status {', '.join(map(str, statuses))}")
    console.print(
        "\nTry next:\n"
        "  source .venv/bin/activate\n"
        "  python -m peer.serve --blocks 0:20          # prints how to join it\n"
        "  python -m peer.serve --join MADDR           # in another terminal: takes what is missing\n"
        "  python -m client.generate --join MADDR --prompt 'def fib(n):'\n"
        "  python -m client.chat --join MADDR",
        highlight=False,
    )
    return 0 if same and result.failovers and not any(statuses) else 1


def _generate_and_lose_a_peer(console: Console, swarm: LocalSwarm, client: Client, prompt: str) -> Result:
    scene = Scene(swarm)
    scene.text = prompt
    victim: LocalPeer | None = None
    with _shown(console, scene) as say:
        stream = client.stream(prompt, **SAMPLING)
        for piece in stream:
            scene.take(piece)
            if victim is None and scene.tokens >= KILL_AT:
                victim = next(peer for peer in swarm.peers if peer.peer_id == piece.route[-1]["peer"])
                victim.kill()
                say(f"token {scene.tokens}: peer {victim.peer_id[:8]} was killed with SIGKILL")
    result = stream.result
    if not console.is_terminal:
        console.print(scene)
    console.print(
        f"{result.completion_tokens} tokens, {result.tokens_per_s:.1f} tokens/s, fail-overs: {result.failovers}"
    )
    return result


@contextlib.contextmanager
def _shown(console: Console, scene: Scene) -> Iterator:
    """A live picture on a terminal, plain lines elsewhere. Gives the function that reports an event."""
    if not console.is_terminal:
        yield lambda event: (scene.events.append(event), console.print(event))
        return
    with Live(scene, console=console, refresh_per_second=12):
        yield scene.events.append
