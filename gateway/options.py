"""The command line of ``shoal gateway`` → GatewayConfig. Imports nothing slow: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dashboard.config import DashboardConfig
from dashboard.options import SHARED, add_shared, read_shared
from gateway.aliases import read_aliases
from gateway.config import GatewayConfig
from gateway.keys import KEYS_VARIABLE
from gateway.limits import Limits
from peer.log import LEVELS
from swarm.address import SWARM_VARIABLE, Address, read_swarm
from swarm.errors import UsageError
from swarm.profile import PROFILES


def parse(argv: Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> GatewayConfig:
    """Raises UsageError for what cannot be meant or is unknown; argparse itself exits with 0 after --help."""
    given: dict[str, Any] = {k: v for k, v in vars(_parser().parse_args(argv)).items() if v is not None}
    given["join"] = read_swarm(given.get("join"), environ)
    if not given["join"]:
        raise UsageError(f"no swarm is named; give --join an address that a peer prints (or set {SWARM_VARIABLE})")
    if "listen" in given:
        given["listen"] = Address.parse(given["listen"], "--listen")
    if "keys" in given:
        given["keys"] = Path(given["keys"]).expanduser()
    given["models"] = tuple(given.get("models", ()))
    given["aliases"] = read_aliases(given.get("aliases", ()))
    given["limits"] = Limits(given.pop("rpm", None), given.pop("concurrent", None))
    given["dashboard"] = _dashboard(given, keyed="keys" in given or bool(environ.get(KEYS_VARIABLE)))
    return GatewayConfig(**given)


def _dashboard(given: dict[str, Any], *, keyed: bool) -> DashboardConfig | None:
    """What it needs, taken out of ``given``. Where there are keys, nobody is to get answers without one, unless it was
    said so.
    """
    of_it = {name: given.pop(name) for name in SHARED if name in given}
    if not given.pop("with_dashboard", True):
        return None
    of_it.setdefault("try_it", not keyed)
    return DashboardConfig(join=given["join"], **read_shared(of_it))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line like any other mistake's, instead of the whole usage."""
        raise UsageError(f"{message}; {self.prog} --help lists what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="shoal gateway",
        description="Serve a swarm over HTTP, as OpenAI's API. Prints one JSON line when ready; logs to stderr.",
        epilog="SIGTERM: no new requests; those that run finish, up to --drain-s; exit 0. SIGHUP: the keys anew.",
    )
    swarm = parser.add_argument_group("the swarm")
    swarm.add_argument(
        "--join", nargs="+", action="extend", metavar="MADDR",
        help=f"addresses that peers print under \"join\" (default: ${SWARM_VARIABLE})",
    )  # fmt: skip
    swarm.add_argument(
        "--model", dest="models", action="append", metavar="NAME[@REVISION]",
        help="offer this model only, by name or fingerprint; may be given several times (default: all there are)",
    )  # fmt: skip
    swarm.add_argument(
        "--alias", dest="aliases", action="append", metavar="NAME=MODEL:WEIGHT,…",
        help="a name for several models, by weight: chat=model-a:90,model-b:10",
    )  # fmt: skip
    swarm.add_argument("--profile", choices=PROFILES, help="arithmetic to insist on (default: c8 where it covers)")
    http = parser.add_argument_group("who may ask, and how much")
    http.add_argument("--listen", metavar="HOST:PORT", help="default: 127.0.0.1:8000; port 0: any")
    http.add_argument(
        "--keys",
        metavar="FILE",
        help=f"lines of NAME KEY [rpm=N] [concurrent=N] (or ${KEYS_VARIABLE}); none: everybody",
    )
    http.add_argument(
        "--rpm", type=float, metavar="N", help="requests a minute of a key, or of an address without keys"
    )
    http.add_argument("--concurrent", type=int, metavar="N", help="requests of one of them at a time")
    http.add_argument("--max-body-bytes", type=int, metavar="N", help="of a request (default: 4 MiB)")
    http.add_argument("--max-prompt-tokens", type=int, metavar="N", help="default: as many as the model takes")
    http.add_argument("--max-answers", type=int, metavar="N", help="of one request, prompts × n (default: 16)")
    http.add_argument("--default-tokens", type=int, metavar="N", help="of a chat that names no number (default: 1024)")
    page = parser.add_argument_group("the dashboard, under /")
    page.add_argument("--no-dashboard", dest="with_dashboard", action="store_false", default=None, help="show none")
    add_shared(page)
    load = parser.add_argument_group("load and time")
    load.add_argument("--max-running", type=int, metavar="N", help="answers that are made at a time (default: 64)")
    load.add_argument("--max-queue", type=int, metavar="N", help="requests that wait (default: 256)")
    load.add_argument("--queue-timeout-s", type=float, metavar="S", help="how long they wait (default: 30)")
    load.add_argument("--request-timeout-s", type=float, metavar="S", help="of an answer (default: 600)")
    load.add_argument("--write-timeout-s", type=float, metavar="S", help="a reader that takes nothing (default: 60)")
    load.add_argument("--body-timeout-s", type=float, metavar="S", help="a request, to be read (default: 30)")
    load.add_argument("--drain-s", type=float, metavar="S", help="for running answers after SIGTERM (default: 30)")
    parser.add_argument("--log-level", choices=LEVELS, help="default: info")
    return parser
