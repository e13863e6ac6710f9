"""``python -m client.generate``: one prompt, one answer. Streams the text, or prints one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from client import waterfall
from client.client import Client
from client.once import callable_module, generate
from client.result import Result
from client.sampling import Options, read_options
from client.terminal import Parser, Progress, add_sampling_options, add_swarm_options, command, config_of, options_of
from swarm.errors import ShoalError, UsageError


def main(argv: Sequence[str] | None = None, client_type: type[Client] = Client) -> int:
    """Returns the exit status: 0, 2 bad usage, 3 bad model, 4 the swarm cannot, 5 a peer's fault, 130 interrupted."""
    parser = Parser("client.generate", description="Generate text through a swarm.")
    parser.add_argument("--prompt", required=True, help='the text to continue; "-" reads it from stdin')
    add_swarm_options(parser)
    add_sampling_options(parser)
    parser.add_argument(
        "--logprobs", type=int, metavar="K", help="report log probabilities, and K alternatives a token (with --json)"
    )
    several = parser.add_argument_group("several answers (shown when all are done)")
    several.add_argument("-n", type=int, metavar="N", help="so many answers")
    several.add_argument("--best-of", type=int, metavar="N", help="of so many, the likeliest")
    several.add_argument("--num-beams", type=int, metavar="N", help="beam search")
    several.add_argument("--length-penalty", type=float, metavar="X", help="of beam search (default 1)")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="show where a step's time went; write all steps for Perfetto"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line when it is done, instead of streaming")
    arguments = parser.parse_args(argv)
    return command(lambda: _generate(arguments, client_type))


def _generate(arguments: argparse.Namespace, client_type: type[Client]) -> int:
    options = options_of(arguments)
    read_options(options)
    config = config_of(arguments)
    prompt = _prompt(arguments.prompt)
    if arguments.trace is not None:
        if any(getattr(arguments, name) not in (None, 1) for name in ("n", "best_of", "num_beams")):
            raise UsageError("--trace follows one answer; leave out -n, --best-of and --num-beams")
        waterfall.check(arguments.trace)
    with client_type(arguments.join, arguments.model, config) as client:
        result = (_json if arguments.json else _stream)(client, prompt, options)
    if arguments.trace is not None and result.trace is not None:
        waterfall.save(arguments.trace, result.trace)
        waterfall.show(result.trace)
    return 0


def _prompt(given: str) -> str:
    if given != "-":
        return given
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise UsageError("the prompt is to come from stdin, which is closed")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt on stdin is not UTF-8: {error.reason} at byte {error.start}") from None


def _stream(client: Client, prompt: str, options: Options) -> Result:
    stream, shown = client.stream(prompt, **options), False
    with Progress() as progress:
        for piece in stream:
            progress.show(piece)
            print(piece.text, end="", flush=True)
            shown = True
        result = stream.result
        for number, answer in enumerate((result, *result.alternatives), 1):
            if result.alternatives:
                print(f"--- {number}\n{answer.text}", end="")
            elif not shown:
                print(answer.text, end="")
            print(flush=True)
        progress.summary(result)
    return result


def _json(client: Client, prompt: str, options: Options) -> Result:
    """One line, also where the swarm fails in mid-sentence: then with all there was and ``finish_reason`` "error"."""
    stream = client.stream(prompt, **options)
    with Progress() as progress:
        try:
            for piece in stream:
                progress.show(piece)
        except ShoalError:
            if stream.partial is not None:
                print(json.dumps(stream.partial.as_json()), flush=True)
            raise
        print(json.dumps(stream.result.as_json()), flush=True)
        progress.summary(stream.result)
    return stream.result


if __name__ == "__main__":
    sys.exit(main())
callable_module(__name__, generate)
