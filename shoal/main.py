"""The ``shoal`` command: one word chooses a tool, the rest is the tool's own. Knows their names, not their options."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from swarm.version import software_version

COMMANDS = {
    "serve": ("peer.serve", "host a span of blocks"),
    "identity": ("peer.introduce", "make a peer's keys and say how it will be joined"),
    "generate": ("client.generate", "generate text through a swarm"),
    "chat": ("client.chat", "talk to a swarm in the terminal"),
    "gateway": ("gateway.serve", "serve a swarm over HTTP, as OpenAI's API"),
    "top": ("shoal.top", "watch a swarm in the terminal"),
    "doctor": ("shoal.doctor", "check this machine and a swarm, and say what to mend"),
    "dashboard": ("dashboard.serve", "show a swarm in the browser"),
    "demo": ("shoal.demo", "start three peers here, lose one in mid-sentence, go on"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one tool and return its exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args[:1] in (["--version"], ["version"]):
        print(f"shoal {software_version()}")
        return 0
    if args[:1] in ([], ["-h"], ["--help"], ["help"]):
        print(_usage())
        return 0 if args else 2
    if args[0] not in COMMANDS:
        print(f"shoal: no command {args[0]!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[args[0]][0])
    return module.main(args[1:])


def _usage() -> str:
    lines = [f"  shoal {name:<10} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(["usage: shoal COMMAND [options]   (each has --help)", "", *lines])
