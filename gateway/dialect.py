"""Dialect: how Pieces and Results are written in one of OpenAI's two shapes, and what both have around them. Pure.

A stream is opening, deltas and an ending for each answer; without streaming the answers come whole. Fields that are
not known are left out: ``"usage": null`` breaks real clients. ``finish_reason`` alone is always there, for others
index it without asking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from client.result import Piece, Result, TokenLogprob
from gateway import sse
from gateway.errors import ApiError
from gateway.tool_reader import Gained, ToolReader

Decode = Callable[[Sequence[int]], str]
Spell = Callable[[int], bytes]  # of one token
Json = dict[str, Any]


class Dialect(Protocol):
    """``index`` numbers the answers of a request."""

    whole_object: str
    chunk_object: str
    id_prefix: str

    def opening(self, index: int) -> Json | None:
        """The choice of an answer's first chunk, before any token."""
        ...

    def delta(self, index: int, piece: Piece) -> Json: ...

    def ending(self, index: int, result: Result) -> Json: ...

    def whole(self, index: int, result: Result) -> Json: ...


class Wrapping(Protocol):
    """What is around choices. ``done``: what a stream ends with."""

    done: ClassVar[bytes]

    def wrap(self, kind: str, choices: list[Json], usage: Json | None = None) -> Json: ...

    def failed(self, error: ApiError) -> Json:
        """An error in a stream that has begun."""
        ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """OpenAI's Wrapping: what every body and every chunk of one request has in common.

    ``created`` in seconds since 1970.
    """

    done: ClassVar[bytes] = sse.DONE

    id: str
    model: str
    fingerprint: str
    created: int

    def wrap(self, kind: str, choices: list[Json], usage: Json | None = None) -> Json:
        body: Json = {
            "id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices,
            "system_fingerprint": f"fp_{self.fingerprint[:12]}",
        }  # fmt: skip
        if usage is not None:
            body["usage"] = usage
        return body

    def failed(self, error: ApiError) -> Json:
        return error.body


class Usage:
    """Tokens so far. A prompt counts once, however many answers it gets."""

    def __init__(self, prompt_tokens: int):
        self.prompt, self.completion, self.cached = prompt_tokens, 0, 0

    def as_json(self) -> Json:
        return {
            "prompt_tokens": self.prompt, "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion, "prompt_tokens_details": {"cached_tokens": self.cached},
        }  # fmt: skip


class ChatDialect:
    whole_object, chunk_object, id_prefix = "chat.completion", "chat.completion.chunk", "chatcmpl-"

    def __init__(self, spell: Spell, new_reader: Callable[[], ToolReader] | None = None):
        """``new_reader``: where the model was told of tools."""
        self._spell, self._new_reader = spell, new_reader
        self._readers: dict[int, ToolReader] = {}  # of answers that are streamed

    def opening(self, index: int) -> Json:
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}

    def delta(self, index: int, piece: Piece) -> Json:
        delta: Json = {"content": piece.text}
        if self._new_reader is not None:
            if index not in self._readers:
                self._readers[index] = self._new_reader()
            delta = _delta_of(self._readers[index].push(piece.text))
        choice: Json = {"index": index, "delta": delta, "finish_reason": None}
        return self._with_logprobs(choice, piece.logprobs)

    def ending(self, index: int, result: Result) -> Json:
        reader, delta = self._readers.pop(index, None), {}
        if reader is not None:
            delta = _delta_of(reader.finish())
        return {"index": index, "delta": delta, "finish_reason": _reason(result, reader)}

    def whole(self, index: int, result: Result) -> Json:
        message: Json = {"role": "assistant", "content": result.text}
        reader = None if self._new_reader is None else self._new_reader()
        if reader is not None:
            first, last = reader.push(result.text), reader.finish()
            calls = _together([*first.calls, *last.calls])
            message["content"] = first.content + last.content
            if calls:
                message["content"], message["tool_calls"] = message["content"] or None, calls
        choice: Json = {"index": index, "message": message, "finish_reason": _reason(result, reader)}
        return self._with_logprobs(choice, result.logprobs)

    def _with_logprobs(self, choice: Json, logprobs: Sequence[TokenLogprob] | None) -> Json:
        if logprobs is not None:
            choice["logprobs"] = {"content": [self._token(each) for each in logprobs]}
        return choice

    def _token(self, token: TokenLogprob) -> Json:
        top = [self._entry(token_id, logprob) for token_id, logprob in token.top]
        return {**self._entry(token.token_id, token.logprob), "top_logprobs": top}

    def _entry(self, token_id: int, logprob: float | None) -> Json:
        spelt = self._spell(token_id)
        return {"token": spelt.decode(errors="replace"), "logprob": logprob, "bytes": list(spelt)}


def _reason(result: Result, reader: ToolReader | None) -> str:
    called = reader is not None and reader.count > 0 and result.finish_reason == "stop"
    return "tool_calls" if called else result.finish_reason


def _delta_of(gained: Gained) -> Json:
    delta: Json = {"content": gained.content} if gained.content else {}
    if gained.calls:
        delta["tool_calls"] = [
            {"index": index, "function": {"arguments": letters}}
            if begun is None
            else {"index": index, "id": begun[0], "type": "function", "function": {"name": begun[1], "arguments": ""}}
            for index, begun, letters in gained.calls
        ]
    return delta


def _together(calls: Sequence[tuple[int, tuple[str, str] | None, str]]) -> list[Json]:
    found: list[Json] = []
    for index, begun, letters in calls:
        if begun is not None:
            found.append({"id": begun[0], "type": "function", "function": {"name": begun[1], "arguments": ""}})
        found[index]["function"]["arguments"] += letters
    return found


class CompletionDialect:
    """``echoes``: for every answer the text that goes before it, "" without echo."""

    whole_object, chunk_object, id_prefix = "text_completion", "text_completion", "cmpl-"

    def __init__(self, decode: Decode, echoes: Sequence[str]):
        self._decode, self._echoes = decode, echoes
        self._offsets = [len(echo) for echo in echoes]  # letters of each answer that have been told

    def opening(self, index: int) -> Json | None:
        echo = self._echoes[index]
        return {"index": index, "text": echo, "finish_reason": None} if echo else None

    def delta(self, index: int, piece: Piece) -> Json:
        choice: Json = {"index": index, "text": piece.text, "finish_reason": None}
        return self._with_logprobs(choice, piece.logprobs)

    def ending(self, index: int, result: Result) -> Json:
        return {"index": index, "text": "", "finish_reason": result.finish_reason}

    def whole(self, index: int, result: Result) -> Json:
        text = self._echoes[index] + result.text
        return self._with_logprobs(
            {"index": index, "text": text, "finish_reason": result.finish_reason}, result.logprobs
        )

    def _with_logprobs(self, choice: Json, logprobs: Sequence[TokenLogprob] | None) -> Json:
        index: int = choice["index"]
        if logprobs is None:
            return choice
        words = [self._decode((each.token_id,)) for each in logprobs]
        offsets: list[int] = []
        for word in words:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(word)
        choice["logprobs"] = {
            "tokens": words,
            "token_logprobs": [each.logprob for each in logprobs],
            "top_logprobs": [{self._decode((i,)): p for i, p in reversed(each.top)} for each in logprobs],
            "text_offset": offsets,
        }  # reversed: of several ids with one text the most likely stays
        return choice
