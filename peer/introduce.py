"""``shoal identity``: who a Peer will be, before it runs. Makes its keys where they are missing, prints its address.

A join address ends in the p2p id, which follows from a key. Whoever writes several machines' configuration (compose,
Kubernetes, a group of friends) wants to know all addresses before the first Peer has started: then every Peer and every
gateway can be given the same list. Knows files and addresses; starts nothing and dials nobody.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from peer.identity import look_up_identity
from swarm.address import Address
from swarm.errors import ShoalError, UsageError


@dataclass(frozen=True, slots=True)
class Wanted:
    """One identity directory, and where the DHT of its Peer will be reached, if that was said."""

    directory: Path
    address: Address | None

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """``DIR`` or ``DIR=HOST:PORT``. Raises UsageError."""
        directory, equals, address = text.rpartition("=")
        if not equals:
            return cls(Path(text).expanduser(), None)
        where = Address.parse(address, "the DHT's address")
        if where.anywhere or not where.port:
            raise UsageError(
                f"{where} cannot be dialled; name the host and the port of --dht-listen as others see them"
            )
        return cls(Path(directory).expanduser(), where)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON line for each. Returns the exit status; a mistake is one line on stderr."""
    try:
        args = _parser().parse_args(argv)
        wanted = [Wanted.parse(text) for text in args.identities]
        if args.write is not None and not any(each.address for each in wanted):
            raise UsageError("--write wants addresses: name them, DIR=HOST:PORT")
        joins: list[str] = []
        for each in wanted:
            line = _introduce(each)
            joins += line["join"]
            print(json.dumps(line), flush=True)
        if args.write is not None:
            _write(args.write.expanduser(), joins)
        return 0
    except ShoalError as error:
        print(f"shoal: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status


def _introduce(wanted: Wanted) -> dict[str, Any]:
    from dht.daemon import maddr
    from dht.node import ensure_identity  # slow: only once it is clear what is wanted

    identity = look_up_identity(wanted.directory)
    path = identity.p2p_key_path
    assert path is not None
    p2p_id = ensure_identity(path)
    join = [f"{maddr(wanted.address)}/p2p/{p2p_id}"] if wanted.address else []
    return {"identity": str(wanted.directory), "peer_id": identity.peer_id, "p2p_id": p2p_id, "join": join}


def _write(path: Path, joins: Sequence[str]) -> None:
    """Whole or not at all: a Peer may be reading it."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fresh.write_text("".join(f"{join}\n" for join in joins))
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line like any other mistake's, instead of the whole usage."""
        raise UsageError(f"{message}; {self.prog} --help lists what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="shoal identity",
        description="Make a peer's keys where they are missing, and say how it will be joined: one JSON line each.",
        epilog="Give the directory to shoal serve --identity, and the file to --join @FILE of everybody.",
    )
    parser.add_argument(
        "identities", nargs="+", metavar="DIR[=HOST:PORT]",
        help="an identity directory, and where others will reach the DHT of its peer",
    )  # fmt: skip
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the join addresses there, one on a line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
