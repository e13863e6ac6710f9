"""``python -m client.generate``: one prompt, one answer. Streams the text, or prints one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from client.client import Client
from client.once import callable_module, generate
from client.result import Leg, Piece, Result, TokenLogprob
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
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt on stdin is not UTF-8: {error.reason} at byte {error.start}") from None


def _stream(client: Client, prompt: str, options: Options) -> int:
    with Progress() as progress:
        for item in client.stream(prompt, **options):
            if isinstance(item, Result):
                print(flush=True)
                progress.summary(item)
            else:
                progress.show(item)
                print(item.text, end="", flush=True)
    return 0


def _json(client: Client, prompt: str, options: Options) -> int:
    """One line, also where the swarm fails in mid-sentence: then with the text so far and ``finish_reason`` "error"."""
    pieces: list[Piece] = []
    with Progress() as progress:
        try:
            for item in client.stream(prompt, **options):
                if isinstance(item, Result):
                    print(json.dumps(item.as_json()), flush=True)
                    progress.summary(item)
                else:
                    progress.show(item)
                    pieces.append(item)
        except ShoalError as error:
            if pieces:
                print(json.dumps(_torso(pieces, getattr(error, "text", ""))), flush=True)
            raise
    return 0


def _torso(pieces: Sequence[Piece], text: str) -> dict[str, Any]:
    token_ids = [token_id for piece in pieces for token_id in piece.token_ids]
    logprobs: list[TokenLogprob] = [entry for piece in pieces for entry in piece.logprobs or ()]
    route: list[Leg] = pieces[-1].route
    result = Result(
        text=text or "".join(piece.text for piece in pieces),
        token_ids=tuple(token_ids), logprobs=tuple(logprobs) if logprobs else None, finish_reason="error",
        prompt_tokens=0, completion_tokens=len(token_ids), ttft_s=0.0, tokens_per_s=0.0,
        route=route, failovers=pieces[-1].failovers, seed=0,
    )  # fmt: skip
    return result.as_json()


if __name__ == "__main__":
    sys.exit(main())
callable_module(__name__, generate)
