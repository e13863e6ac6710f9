"""What the client's two command lines share: options, errors in one line, and what is shown beside the text.

Text goes to stdout, everything else to stderr, and there only what a person looks at.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from client.config import SHAPES, ClientConfig
from client.result import Piece, Result
from client.sampling import Options
from proto.messages import WireDType
from swarm.errors import ShoalError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
DRAFTS_OF_A_MODEL = 8  # where --draft-model comes without --draft-tokens


class Parser(argparse.ArgumentParser):
    """Mistakes in one line, like all others, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        print(f"shoal: {message}; --help lists what there is", file=sys.stderr)
        raise SystemExit(2)


def add_swarm_options(parser: argparse.ArgumentParser) -> None:
    """Where to, and how long to wait."""
    group = parser.add_argument_group("swarm")
    group.add_argument(
        "--join",
        nargs="+",
        action="extend",
        metavar="MADDR",
        help='addresses that peers print under "join" (default: $SHOAL_SWARM)',
    )
    group.add_argument("--model", help="name or fingerprint, where the swarm serves several")
    group.add_argument(
        "--profile",
        help="arithmetic to insist on: c8, f32, or c8-approx, which takes GPUs that do not keep c8's bits too",
    )
    group.add_argument(
        "--wire", choices=[dtype.name.lower() for dtype in WireDType], help="numbers between hops (default f32)"
    )
    group.add_argument(
        "--prefer", action="append", metavar="PEER_ID", help="use this peer where possible; may be given several times"
    )
    group.add_argument(
        "--shape", choices=SHAPES, help="of the data path (default: a ring, or the best that the peers' network allows)"
    )
    group.add_argument(
        "--draft-tokens", type=int, metavar="N",
        help=f"guess up to N tokens ahead at a step (default 0; {DRAFTS_OF_A_MODEL} with --draft-model)",
    )  # fmt: skip
    group.add_argument(
        "--draft-model", type=Path, metavar="DIR", help="a small model of the same vocabulary that guesses, locally"
    )
    group.add_argument(
        "--ends", choices=("remote", "local"), help="local: embedding and head on this machine; peers see no tokens"
    )
    group.add_argument(
        "--checkpoint", metavar="DIR|ID", help="with --ends local: where the model's files are (default: by its name)"
    )
    group.add_argument(
        "--suspect-after-s", type=float, metavar="S", help="seconds of silence until peers are asked (default 0.75)"
    )
    group.add_argument("--patience-s", type=float, metavar="S", help="seconds to wait for missing blocks (default 10)")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """The same names as the keyword arguments of ``client.generate``."""
    group = parser.add_argument_group("sampling (greedy unless a temperature is given)")
    group.add_argument("--max-new-tokens", type=int, metavar="N")
    group.add_argument("--temperature", type=float, metavar="T")
    group.add_argument("--top-p", type=float, metavar="P")
    group.add_argument("--top-k", type=int, metavar="K")
    group.add_argument("--min-p", type=float, metavar="P")
    group.add_argument("--repetition-penalty", type=float, metavar="X")
    group.add_argument("--presence-penalty", type=float, metavar="X")
    group.add_argument("--frequency-penalty", type=float, metavar="X")
    group.add_argument("--seed", type=int)
    group.add_argument(
        "--stop", action="append", metavar="TEXT", help="end before this text; may be given several times"
    )
    group.add_argument("--stop-token-id", dest="stop_token_ids", type=int, action="append", metavar="ID")
    group.add_argument("--min-tokens", type=int, metavar="N", help="do not end before so many")
    group.add_argument("--logit-bias", type=_biases, metavar="ID:X,…", help="added to tokens' logits; -100 forbids one")
    group.add_argument("--json-schema", type=_schema, metavar="FILE", help="the answer is JSON that fits this schema")
    group.add_argument("--grammar", metavar="TEXT", help="the same as a grammar in llguidance's Lark")
    group.add_argument("--ignore-eos", action="store_true", help="do not end where the model would")


def _biases(text: str) -> dict[int, float]:
    found: dict[int, float] = {}
    for part in text.split(","):
        token_id, colon, bias = part.partition(":")
        try:
            found[int(token_id)] = float(bias)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part[:40]!r} is not ID:X, for example 198:-100") from None
        if not colon:
            raise argparse.ArgumentTypeError(f"{part[:40]!r} is not ID:X, for example 198:-100")
    return found


def _schema(path: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{path} is no JSON: {str(error)[:120]}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{path} is no JSON Schema: an object is expected")
    return cast(dict[str, Any], found)


def config_of(arguments: argparse.Namespace) -> ClientConfig:
    """Raises UsageError."""
    draft_tokens = arguments.draft_tokens
    if arguments.draft_model and draft_tokens is None:
        draft_tokens = DRAFTS_OF_A_MODEL
    given: dict[str, Any] = {
        "profile": arguments.profile,
        "wire": None if arguments.wire is None else WireDType[arguments.wire.upper()],
        "prefer": None if arguments.prefer is None else tuple(arguments.prefer),
        "shape": arguments.shape,
        "draft_tokens": draft_tokens,
        "draft_model": arguments.draft_model,
        "ends": arguments.ends,
        "checkpoint": arguments.checkpoint,
        "trace": getattr(arguments, "trace", None) is not None or None,
        "suspect_after_s": arguments.suspect_after_s,
        "patience_s": arguments.patience_s,
    }
    return ClientConfig(**{name: value for name, value in given.items() if value is not None})


def options_of(arguments: argparse.Namespace) -> Options:
    options: dict[str, Any] = {
        name: getattr(arguments, name) for name in Options.__annotations__ if hasattr(arguments, name)
    }
    return Options(**options)


def command(body: Callable[[], int]) -> int:
    """Run a command line's body; its errors become one line and an exit status, never a traceback."""
    _stand_in()
    try:
        return body()
    except ShoalError as error:
        _complain(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads on: not our trouble, and not to be reported at exit either
        _silence(sys.stdout)
        return 0
    except OSError as error:  # a full disk below stdout, as a rule
        _silence(sys.stdout)
        _complain(str(error))
        return 1


def _stand_in() -> None:
    """Closed streams lead nowhere. Otherwise a socket would get the number, and with it what libraries say there."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        os.open(os.devnull, os.O_RDONLY)  # in its place; to read from it stays a mistake
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _complain(line: str) -> None:
    try:
        print(f"shoal: {line}", file=sys.stderr)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """What is still in ``stream`` goes nowhere, so that the interpreter has nothing to complain of at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress:
    """On a terminal's stderr: a spinner until the first token (a live line if text goes elsewhere), then a summary."""

    def __init__(self, quiet: bool = False):
        self._on = sys.stderr.isatty() and not quiet
        self._live = self._on and not sys.stdout.isatty()
        self._status: Any = None
        self._tokens = 0

    def __enter__(self) -> Progress:
        if self._on:
            from rich.console import Console

            self._status = Console(stderr=True).status("joining the swarm …")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def show(self, piece: Piece) -> None:
        """A Piece came; call it before its text is written."""
        self._tokens += len(piece.token_ids)
        if not self._live:
            self._stop()  # the text is the progress
        elif self._status is not None:
            lost = f" · {piece.failovers} fail-overs" if piece.failovers else ""
            self._status.update(f"{self._tokens} tokens · {piece.route_text}{lost}")

    def summary(self, result: Result) -> None:
        self._stop()
        if self._on:
            from rich.console import Console
            from rich.text import Text

            lost = f" · {result.failovers} fail-over{'s' * (result.failovers != 1)}" if result.failovers else ""
            speed = f"{result.tokens_per_s:.1f} tokens/s · first after {result.ttft_s:.2f} s"
            cached = f" · {result.cached_tokens} of the prompt from cache" if result.cached_tokens else ""
            line = f"{result.completion_tokens} tokens · {speed}{cached}{lost}\n{result.shape}: {result.route_text}"
            Console(stderr=True).print(Text(line, style="dim"))

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
