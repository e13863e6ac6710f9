"""Text: the tokenizer a swarm hands out, streaming detokenisation, stop strings, the chat template.

Everything here comes from strangers' files that were checked by digest only, so what does not parse becomes a
ModelError, and a chat template runs in transformers' sandbox, never as remote code.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

from client.sampling import sketch
from client.spelling import Spelling
from swarm.errors import CorruptCheckpoint, UsageError

CONTEXT_TOKENS = 6  # of the prompt, decoded along so that the answer's first space is right
UNFINISHED = "\ufffd"  # what a decoder writes for bytes that do not (yet) make a letter

# Chats are encoded in threads, and transformers, which imports its parts when they are asked for, gives an ImportError
# to all but the first of several threads that ask at once.
_ONE_AT_A_TIME = threading.Lock()

Message = Mapping[str, Any]  # "role" and "content", both text; for templates that know them, also "tool_calls" …


class Codec:
    """Text ↔ token ids of one model, from a directory with its tokenizer files."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._tokenizer: Any = None
        self._chat: Any = None
        self._spelling: Spelling | None = None
        path = directory / "tokenizer.json"
        if path.exists():
            try:
                self._tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
            except Exception as error:  # tokenizers raises nothing narrower
                raise CorruptCheckpoint(f"the model's tokenizer.json cannot be read: {error!s:.200}") from error

    def encode(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """``special``: with what the model wants at the beginning. Raises UsageError without a tokenizer."""
        if self._tokenizer is None:
            raise UsageError("the peers of this model hand out no tokenizer.json; give the prompt as token ids")
        return tuple(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Without special tokens; nothing at all for a model without tokenizer."""
        return "" if self._tokenizer is None else self._tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def spell(self, token_id: int) -> bytes:
        """The bytes of one token, which may be half a letter; nothing for a special one."""
        if self._tokenizer is None:
            return b""
        if self._spelling is None:
            self._spelling = Spelling(self._tokenizer)
        return self._spelling.bytes_of(token_id)

    def chat_prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> tuple[int, ...]:
        """The prompt that makes the model give the next answer, which may call ``tools`` (as transformers has them).
        Raises UsageError without a chat template.
        """
        check_messages(messages)
        template = self._chat_tokenizer()
        if not template.chat_template:
            raise UsageError("this model has no chat template; use generate() with a plain prompt")
        try:
            text = cast(
                str,
                template.apply_chat_template(
                    list(messages),
                    tools=list(tools) if tools else None,
                    tokenize=False,
                    add_generation_prompt=True,
                ),
            )
        except Exception as error:  # the template is the model's own program and fails as it likes
            raise UsageError(f"the model's chat template does not take these messages: {error!s:.200}") from error
        return self.encode(text, special=False)

    @property
    def chat_template(self) -> str:
        """Its text; "" for none."""
        found: Any = self._chat_tokenizer().chat_template
        return found if isinstance(found, str) else ""

    @property
    def has_chat_template(self) -> bool:
        return bool(self._chat_tokenizer().chat_template)

    def _chat_tokenizer(self) -> Any:
        with _ONE_AT_A_TIME:
            if self._chat is None:
                from transformers import PreTrainedTokenizerFast  # 0.7 s, and only for chats

                try:
                    # This class whatever tokenizer_config.json names: it needs nothing but the files.
                    self._chat = cast(Any, PreTrainedTokenizerFast).from_pretrained(
                        str(self._directory), local_files_only=True
                    )
                except Exception as error:
                    raise CorruptCheckpoint(f"the model's tokenizer files cannot be read: {error!s:.200}") from error
            return self._chat


def check_messages(messages: Sequence[Message]) -> None:
    """Raises UsageError unless there is something to answer."""
    if not isinstance(messages, list | tuple) or not messages:
        raise UsageError('a chat needs at least one message, in a list: [{"role": "user", "content": "Hello"}]')
    for message in messages:
        told: Mapping[Any, Any] = message if isinstance(message, Mapping) else {}  # pyright: ignore
        if not all(isinstance(told.get(key), str) for key in ("role", "content")):
            raise UsageError(f"a chat message needs a role and a content, both text, not {sketch(message)}")
        check_text(message["role"], "a chat message")
        check_text(message["content"], "a chat message")


def check_text(text: str, what: str = "the prompt") -> None:
    """Raises UsageError for half a surrogate pair, which is how bytes that are no UTF-8 get into a command line."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} is not valid Unicode text: {error.reason} at letter {error.start}") from None


def generation_defaults(directory: Path) -> dict[str, Any]:
    """generation_config.json, or nothing where there is none that makes sense."""
    try:
        found: Any = json.loads((directory / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


class Detokeniser:
    """Token ids in, text out, never half a letter. The pieces together are the text.

    Tokens do not decode one by one (a letter may be several, a space may depend on its neighbour), so the text of a
    new token is what decoding gains by it, over a window that begins a few tokens earlier.
    """

    def __init__(self, codec: Codec, prompt: Sequence[int]):
        self._codec = codec
        self._window = list(prompt[-CONTEXT_TOKENS:])
        self._said: str = codec.decode(self._window)  # the text of the window that is out
        self._new: list[int] = []  # tokens whose text is not out

    def push(self, token_id: int) -> str:
        """The text that ``token_id`` completed; often empty."""
        self._new.append(token_id)
        text = self._codec.decode([*self._window, *self._new])
        if text.endswith(UNFINISHED):
            return ""
        return self._emit(text)

    def finish(self) -> str:
        """What is left, unfinished letters as they are."""
        return self._emit(self._codec.decode([*self._window, *self._new])) if self._new else ""

    def _emit(self, text: str) -> str:
        both = enumerate(zip(self._said, text, strict=False))
        same = next((n for n, (old, new) in both if old != new), min(len(self._said), len(text)))
        whole = not self._said[same:].strip(UNFINISHED)  # the prompt may have ended inside a letter, which is whole now
        gained = text[same if whole else len(self._said) :]
        if gained:
            self._window = self._new
            self._said = self._codec.decode(self._window)
        self._new = []
        return gained


class StopFinder:
    """Holds back what may be the beginning of a stop string, and ends the text before the one that is complete first.

    How the text is cut into pieces makes no difference. Of two that end at the same letter, the longer counts.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = tuple(stops)
        self._held: str = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What may be shown now. Nothing after ``stopped``."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)[1]]
        keep = max(
            (n for stop in self._stops for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n])),
            default=0,
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        held, self._held = self._held, ""
        return held
