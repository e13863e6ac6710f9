"""Dialect: how Pieces and Results are written in one of OpenAI's two shapes, and what both have around them. Pure.

A stream is opening, deltas and an ending for each answer; without streaming the answers come whole. Fields that are
not known are left out: ``"usage": null`` breaks real clients. ``finish_reason`` alone is always there, for others
index it without asking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from client.result import Piece, Result, TokenLogprob

Decode = Callable[[Sequence[int]], str]
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


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every body and every chunk of one request has in common. ``created`` in seconds since 1970."""

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

    def __init__(self, decode: Decode):
        self._decode = decode

    def opening(self, index: int) -> Json:
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}

    def delta(self, index: int, piece: Piece) -> Json:
        choice: Json = {"index": index, "delta": {"content": piece.text}, "finish_reason": None}
        return self._with_logprobs(choice, piece.logprobs)

    def ending(self, index: int, result: Result) -> Json:
        return {"index": index, "delta": {}, "finish_reason": result.finish_reason}

    def whole(self, index: int, result: Result) -> Json:
        message = {"role": "assistant", "content": result.text}
        choice: Json = {"index": index, "message": message, "finish_reason": result.finish_reason}
        return self._with_logprobs(choice, result.logprobs)

    def _with_logprobs(self, choice: Json, logprobs: Sequence[TokenLogprob] | None) -> Json:
        if logprobs is not None:
            choice["logprobs"] = {"content": [self._token(each) for each in logprobs]}
        return choice

    def _token(self, token: TokenLogprob) -> Json:
        top = [self._entry(token_id, logprob) for token_id, logprob in token.top]
        return {**self._entry(token.token_id, token.logprob), "top_logprobs": top}

    def _entry(self, token_id: int, logprob: float | None) -> Json:
        text = self._decode((token_id,))
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


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
