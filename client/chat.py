"""``python -m client.chat``: a conversation in the terminal. Ctrl-C ends an answer, Ctrl-D the conversation."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence

from client.client import Client
from client.once import callable_module, chat
from client.sampling import Options, read_options
from client.terminal import Parser, Progress, add_sampling_options, add_swarm_options, command, config_of, options_of
from swarm.errors import ShoalError, UsageError

HELP = "/reset begins anew, /quit (or Ctrl-D) leaves, Ctrl-C ends an answer; anything else is said to the model"


def main(argv: Sequence[str] | None = None, client_type: type[Client] = Client) -> int:
    """Returns the exit status, as ``client.generate`` does."""
    parser = Parser("client.chat", description="Talk to the model of a swarm.", epilog=HELP)
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    add_swarm_options(parser)
    add_sampling_options(parser)
    arguments = parser.parse_args(argv)
    return command(lambda: _chat(arguments, client_type))


def _chat(arguments: argparse.Namespace, client_type: type[Client]) -> int:
    options = options_of(arguments)
    read_options(options)
    config = config_of(arguments)
    with client_type(arguments.join, arguments.model, config) as client:
        with Progress():
            served = client.served()
            if not served.codec.has_chat_template:
                raise UsageError(f"{served.model.name} has no chat template; use client.generate instead")
        print(f"{served.model.name}, {served.model.num_blocks} blocks. {HELP}.", file=sys.stderr)
        Conversation(client, options, arguments.system).run(_ask)
    return 0


class Conversation:
    """What was said so far, and the loop that goes on with it. A failed answer leaves the history as it was."""

    def __init__(self, client: Client, options: Options, system: str | None):
        self._client, self._options = client, options
        self._opening = [{"role": "system", "content": system}] if system else []
        self.messages = list(self._opening)

    def run(self, ask: Callable[[], str | None]) -> None:
        """Until ``ask`` returns None."""
        while (line := ask()) is not None:
            match line.strip():
                case "":
                    pass
                case "/quit" | "/exit":
                    return
                case "/reset":
                    self.messages = list(self._opening)
                case said if said.startswith("/"):
                    print(HELP, file=sys.stderr)
                case said:
                    self._answer(said)

    def _answer(self, said: str) -> None:
        messages = [*self.messages, {"role": "user", "content": said}]
        text: list[str] = []
        try:
            with Progress() as progress:
                for piece in self._client.stream_chat(messages, **self._options):
                    progress.show(piece)
                    print(piece.text, end="", flush=True)
                    text.append(piece.text)
        except KeyboardInterrupt:
            if not text:
                print(file=sys.stderr)
                return
        except ShoalError as error:
            print(f"{chr(10) * bool(text)}shoal: {error}", file=sys.stderr)
            return
        print(flush=True)
        self.messages = [*messages, {"role": "assistant", "content": "".join(text)}]


def _ask() -> str | None:
    """A line from the user; None at the end of input. Ctrl-C gives the line up."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        return None
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # gives input() its history and editing
    try:
        return input("> " if sys.stdin.isatty() else "")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return ""
    except EOFError:
        print(file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())
callable_module(__name__, chat)
