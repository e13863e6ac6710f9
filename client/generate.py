"""``python -m client.generate``: one prompt, one answer. Streams the text, or prints one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from client.client import Client
from client.once import callable_module, generate
from client.sampling import Options, read_options
from client.terminal import Progress, add_sampling_options, add_swarm_options, command, config_of, options_of
from swarm.errors import ShoalError, UsageError


def main(argv: Sequence[str] | None = None, client_type: type[Client] = Client) -> int:
    """Returns the exit status: 0, 2 bad usage, 3 bad model, 4 the swarm cannot, 5 a peer's fault, 130 interrupted."""
    parser = argparse.ArgumentParser("client.generate", description="Generate text through a swarm.")
    parser.add_argument("--prompt", required=True, help='the text to continue; "-" reads it from stdin')
    add_swarm_options(parser)
    add_sampling_options(parser)
    parser.add_argument(
        "--logprobs", type=int, metavar="K", help="report log probabilities, and K alternatives a token (with --json)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line when it is done, instead of streaming")
    arguments = parser.parse_args(argv)
    return command(lambda: _generate(arguments, client_type))


def _generate(arguments: argparse.Namespace, client_type: type[Client]) -> int:
    options = options_of(arguments)
    read_options(options)
    config = config_of(arguments)
    prompt = _prompt(arguments.prompt)
    with client_type(arguments.join, arguments.model, config) as client:
        return _json(client, prompt, options) if arguments.json else _stream(client, prompt, options)


def _prompt(given: str) -> str:
    if given != "-":
        return given
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise UsageError("the prompt is to come from stdin, which is closed")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt on stdin is not UTF-8: {error.reason} at byte {error.start}") from None


def _stream(client: Client, prompt: str, options: Options) -> int:
    stream = client.stream(prompt, **options)
    with Progress() as progress:
        for piece in stream:
            progress.show(piece)
            print(piece.text, end="", flush=True)
        print(flush=True)
        progress.summary(stream.result)
    return 0


def _json(client: Client, prompt: str, options: Options) -> int:
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
callable_module(__name__, generate)
