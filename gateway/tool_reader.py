"""ToolReader: the text of an answer in, content and tool calls out, as they come. Pure.

What a model writes when it calls is its template's affair; two ways are known. Both are one JSON object a call:

    Hermes, Qwen   <tool_call>{"name": "f", "arguments": {…}}</tool_call>, among text
    Llama 3        {"name": "f", "parameters": {…}}, instead of text; several with ``;`` between them

A call is told as soon as its name is known, its arguments letter by letter. What begins like a call and is none turns
out to be content.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

LONGEST_HEAD = 512  # letters up to the arguments
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([\w.-]{1,128})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_NEXT = re.compile(r"[;,\s]*")


class ToolFormat(Enum):
    HERMES = "<tool_call>"
    LLAMA = ""


@dataclass(slots=True)
class Gained:
    """What a piece of text added. ``calls``: (index, id and name where it begins, letters of its arguments)."""

    content: str
    calls: list[tuple[int, tuple[str, str] | None, str]]


class ToolReader:
    """One answer's. ``new_id`` names calls; of more than ``most`` calls the others are dropped."""

    def __init__(self, form: ToolFormat, new_id: Callable[[], str], most: int | None = None):
        self._form, self._new_id, self._most = form, new_id, most
        self._held = ""
        self._state = "text" if form is ToolFormat.HERMES else "maybe"
        self._object = _Object()
        self.count = 0  # of calls

    def push(self, text: str) -> Gained:
        self._held += text
        gained = Gained("", [])
        while self._held and self._step(gained):
            pass
        return gained

    def finish(self) -> Gained:
        """Nothing more comes: what was held back is content."""
        gained = self.push("")
        if self._state in ("text", "maybe", "head", "plain"):
            opening = self._form.value if self._state == "head" else ""
            gained.content += opening + self._held if (opening + self._held).strip() or not self.count else ""
        self._held, self._state = "", "plain"
        return gained

    def _step(self, gained: Gained) -> bool:
        """Whether there is more to do with what is held."""
        match self._state:
            case "plain":
                gained.content += self._held
                self._held = ""
                return False
            case "text":
                return self._text(gained)
            case "maybe":
                return self._maybe()
            case "head":
                return self._head(gained)
            case "arguments":
                return self._arguments(gained)
            case _:
                return self._tail()

    def _text(self, gained: Gained) -> bool:
        marker = self._form.value
        before, found, after = self._held.partition(marker)
        if found:
            gained.content += before if before.strip() else ""
            self._held, self._state = after, "head"
            return True
        keep = next((n for n in range(len(marker) - 1, 0, -1) if self._held.endswith(marker[:n])), 0)
        said = self._held[: len(self._held) - keep]
        if said.strip() or not self.count:  # a line break between two calls is no content
            gained.content += said
            self._held = self._held[len(said) :]
        return False

    def _maybe(self) -> bool:
        """Llama: a call begins where an object does, if anywhere."""
        begun = _NEXT.sub("", self._held, count=1) if self.count else self._held.lstrip()
        if not begun:
            return False
        self._state = "head" if begun.startswith("{") else "plain"
        if self._state == "head":
            self._held = begun
        return True

    def _head(self, gained: Gained) -> bool:
        head = _HEAD.match(self._held)
        if head is None:
            if len(self._held) > LONGEST_HEAD:
                self._held = self._form.value + self._held
                self._state = "plain"
                return True
            return False
        self._held, self._state, self._object = self._held[head.end() :], "arguments", _Object()
        self.count += 1
        if self._taken:
            gained.calls.append((self.count - 1, (self._new_id(), head.group(1)), ""))
        return True

    def _arguments(self, gained: Gained) -> bool:
        end = self._object.end(self._held)
        letters, self._held = self._held[:end], self._held[end:]
        if self._taken and letters:
            gained.calls.append((self.count - 1, None, letters))
        if self._object.over:
            self._state = "tail"
        return self._object.over

    def _tail(self) -> bool:
        """What closes a call: a brace, and for Hermes a tag."""
        closing = "</tool_call>" if self._form is ToolFormat.HERMES else "}"
        _, found, after = self._held.partition(closing)
        if not found:
            return False
        self._held, self._state = after, "text" if self._form is ToolFormat.HERMES else "maybe"
        return True

    @property
    def _taken(self) -> bool:
        return self._most is None or self.count <= self._most


class _Object:
    """Finds where a JSON object ends."""

    def __init__(self) -> None:
        self.over = False
        self._depth = 0
        self._quoted = self._escaped = False

    def end(self, text: str) -> int:
        """How many letters of ``text`` belong to it still."""
        for index, letter in enumerate(text):
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif letter == "\\":
                    self._escaped = True
                elif letter == '"':
                    self._quoted = False
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.over = True
                    return index + 1
        return len(text)
