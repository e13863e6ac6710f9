"""The command line of ``shoal dashboard`` → DashboardConfig. Imports nothing slow: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dashboard.config import NO_HISTORY, DashboardConfig
from peer.log import LEVELS
from swarm.address import SWARM_VARIABLE, Address, read_swarm
from swarm.errors import UsageError

SHARED = ("public_join", "history", "try_it")  # what ``add_shared`` adds


def parse(argv: Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> DashboardConfig:
    """Raises UsageError for what cannot be meant or is unknown; argparse itself exits with 0 after --help."""
    given: dict[str, Any] = {k: v for k, v in vars(_parser().parse_args(argv)).items() if v is not None}
    given["join"] = read_swarm(given.get("join"), environ)
    if not given["join"]:
        raise UsageError(f"no swarm is named; give --join an address that a peer prints (or set {SWARM_VARIABLE})")
    if "listen" in given:
        given["listen"] = Address.parse(given["listen"], "--listen")
    given["models"] = tuple(given.get("models", ()))
    return DashboardConfig(**read_shared(given))


def read_shared(given: dict[str, Any]) -> dict[str, Any]:
    """What ``add_shared`` added, as DashboardConfig wants it."""
    if "public_join" in given:
        given["public_join"] = read_swarm(given["public_join"], {})
    if "history" in given:
        text = given["history"]
        given["history"] = None if text == NO_HISTORY else Path(text).expanduser()
        given["own_history"] = text != NO_HISTORY
    return given


def add_shared(group: Any) -> None:
    """The options that a gateway which shows a dashboard has too."""
    group.add_argument(
        "--public-join", nargs="+", action="extend", metavar="MADDR",
        help="addresses that the page tells newcomers to join through (default: those of --join without an IP address)",
    )  # fmt: skip
    group.add_argument(
        "--history", metavar="FILE", help="where the past is kept (default: below ~/.local/state); none: nowhere"
    )
    group.add_argument(
        "--try-it", action=argparse.BooleanOptionalAction, default=None,
        help="“Try it”: anybody gets short answers (default: yes, but not where a gateway asks for keys)",
    )  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line like any other mistake's, instead of the whole usage."""
        raise UsageError(f"{message}; {self.prog} --help lists what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="shoal dashboard",
        description="Show a swarm in the browser, and as JSON. Prints one JSON line when ready; logs to stderr.",
        epilog="It only looks: no weights, no prompts, no addresses of peers whose owners did not agree.",
    )
    swarm = parser.add_argument_group("the swarm")
    swarm.add_argument(
        "--join", nargs="+", action="extend", metavar="MADDR",
        help=f"addresses that peers print under \"join\" (default: ${SWARM_VARIABLE})",
    )  # fmt: skip
    swarm.add_argument(
        "--model", dest="models", action="append", metavar="NAME",
        help="show this model only, by name or fingerprint; may be given several times (default: all there are)",
    )  # fmt: skip
    page = parser.add_argument_group("the page")
    page.add_argument("--listen", metavar="HOST:PORT", help="default: 127.0.0.1:8080; port 0: any")
    add_shared(page)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--try-tokens", type=int, metavar="N", help="of an answer, at most (default: 128)")
    limits.add_argument("--try-at-once", type=int, metavar="N", help="answers at a time (default: 4)")
    limits.add_argument("--try-per-minute", type=float, metavar="N", help="answers of one address (default: 6)")
    limits.add_argument(
        "--rpm", dest="requests_per_minute", type=float, metavar="N", help="requests of one address (default: 600)"
    )
    limits.add_argument("--max-streams", type=int, metavar="N", help="pages that follow the swarm (default: 256)")
    parser.add_argument("--log-level", choices=LEVELS, help="default: info")
    return parser
