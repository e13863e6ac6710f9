"""The command line of ``peer.serve`` → PeerConfig. Imports nothing slow: ``--help`` and mistakes answer at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from peer.config import DEFAULT_KV_TOKENS, PeerConfig
from peer.log import LEVELS
from swarm.address import SWARM_VARIABLE, Address, read_swarm
from swarm.errors import UsageError
from swarm.peerinfo import MAX_NAME_LETTERS
from swarm.profile import PROFILES
from swarm.span import Span


def parse(argv: Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> PeerConfig:
    """Raises UsageError for what cannot be meant or is unknown; argparse itself exits with 0 after --help."""
    given = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    given["join"] = read_swarm(given.get("join"), environ)
    for name in ("listen", "announce", "dht_listen", "http"):
        if name in given:
            given[name] = Address.parse(given[name], f"--{name.replace('_', '-')}")
    if "blocks" in given:
        given["blocks"] = Span.parse(given["blocks"])
    for name in ("identity", "cache"):
        if name in given:
            given[name] = Path(given[name]).expanduser()
    for name in ("swap", "journal", "journal_disk"):
        if f"{name}_mb" in given:
            given[f"{name}_bytes"] = given.pop(f"{name}_mb") << 20
    return PeerConfig(**given)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line like any other mistake's, instead of the whole usage."""
        raise UsageError(f"{message}; {self.prog} --help lists what there is")


def _parser() -> argparse.ArgumentParser:
    default = PeerConfig()
    parser = _Parser(
        prog="python -m peer.serve",
        description="Serve a span of blocks to a Shoal swarm. Prints one JSON line when ready; logs to stderr.",
        epilog="Without --join it starts a new swarm. Others join with the addresses in its ready line.",
    )
    model = parser.add_argument_group("what to serve")
    model.add_argument(
        "--model", metavar="DIR|ID", help="a directory in Hugging Face layout, or a Hub id (default: the sample model)"
    )
    model.add_argument("--revision", help="branch, tag or commit of the Hub model")
    model.add_argument("--blocks", metavar="START:END", help="the span (default: what the swarm lacks most)")
    model.add_argument(
        "--max-blocks", type=int, metavar="N", help="longest span to choose (default: half of the free memory)"
    )
    model.add_argument("--profile", choices=PROFILES, help="arithmetic: c8 is INT8 and exact, f32 plain (default: c8)")
    model.add_argument(
        "--device",
        metavar="cpu|cuda",
        help="what computes: cuda needs shoal[cuda]; the ready line says which profile it keeps",
    )
    model.add_argument(
        "--cache", metavar="DIR", help="where quantised weights are kept (default: the user's cache directory)"
    )
    swarm = parser.add_argument_group("the swarm")
    swarm.add_argument(
        "--join", nargs="+", action="extend", metavar="MADDR",
        help=f"addresses from another peer's ready line, or @FILE with some (default: ${SWARM_VARIABLE})",
    )  # fmt: skip
    swarm.add_argument(
        "--found-after-s", type=float, metavar="S",
        help="where nobody there answers for so long, begin without them and knock on (default: give up at once)",
    )  # fmt: skip
    swarm.add_argument("--listen", metavar="HOST:PORT", help="for all who dial; port 0: any (default: 127.0.0.1:0)")
    swarm.add_argument(
        "--announce", metavar="HOST:PORT", help="how others reach it, where that is not what it listens on"
    )
    swarm.add_argument("--dht-listen", metavar="HOST:PORT", help="for the DHT (default: any port of --listen's host)")
    swarm.add_argument(
        "--name", metavar="NAME", help=f"what dashboards call this peer, at most {MAX_NAME_LETTERS} letters"
    )
    swarm.add_argument(
        "--public-address", action="store_true", default=None,
        help="dashboards may show this peer's address (the swarm knows it in any case)",
    )  # fmt: skip
    swarm.add_argument("--identity", metavar="DIR", help="keep the peer's key there (default: a fresh one every start)")
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--kv-tokens", type=int, metavar="N",
        help=f"KV cache, tokens of all sessions (default: {DEFAULT_KV_TOKENS}, or a quarter of the free memory)",
    )  # fmt: skip
    limits.add_argument(
        "--overcommit", type=float, metavar="X",
        help="promise X times the KV tokens there are; sessions that wait move to host memory or disk (default: 1)",
    )  # fmt: skip
    limits.add_argument(
        "--swap-mb", type=int, metavar="N",
        help=f"host memory for those (default: {default.swap_bytes >> 20}; then files in $TMPDIR)",
    )  # fmt: skip
    limits.add_argument(
        "--journal-mb", type=int, metavar="N",
        help=f"memory for outputs kept for repairs (default: {default.journal_bytes >> 20}; then files in $TMPDIR)",
    )  # fmt: skip
    limits.add_argument(
        "--journal-disk-mb", type=int, metavar="N",
        help=f"of such files, at most (default: {default.journal_disk_bytes >> 20})",
    )  # fmt: skip
    limits.add_argument("--max-sessions", type=int, metavar="N", help=f"default: {default.max_sessions}")
    limits.add_argument(
        "--max-links", type=int, metavar="N",
        help=f"clients and peers connected at a time (default: {default.max_links})",
    )  # fmt: skip
    limits.add_argument(
        "--max-chunk-tokens", type=int, metavar="N",
        help=f"longest piece of a prompt taken at once (default: {default.max_chunk_tokens})",
    )  # fmt: skip
    limits.add_argument(
        "--lease-s", type=float, metavar="S",
        help=f"a session that is silent this long loses its seat (default: {default.lease_s:g})",
    )  # fmt: skip
    limits.add_argument("--threads", type=int, metavar="N", help="of the computation (default: all cores)")
    limits.add_argument(
        "--drain-s", type=float, metavar="S",
        help=f"how long sessions may finish after SIGTERM (default: {default.drain_s:g})",
    )  # fmt: skip
    limits.add_argument(
        "--with-stdin", action="store_true", default=None,
        help="leave at once when standard input closes: a program that starts peers so leaves none behind",
    )  # fmt: skip
    watch = parser.add_argument_group("watching it")
    watch.add_argument("--http", metavar="HOST:PORT", help="serve /healthz, /readyz and /metrics")
    watch.add_argument("--log-level", choices=LEVELS, help="default: info")
    return parser
