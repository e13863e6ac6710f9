"""Spelling: the bytes of one token. Tokens do not decode one by one: some are half a letter, decoders take spaces away.

Whoever puts tokens' bytes together gets the text's, which is what OpenAI's ``logprobs`` have their field ``bytes`` for.
Knows the two ways in which vocabularies write bytes: GPT-2's alphabet of 256 letters, and ``<0xE2>`` beside ``▁``.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = "\u2581"  # how SentencePiece writes it


def gpt2_alphabet() -> dict[str, int]:
    """The letter that stands for each byte: itself where it can be seen, else the next one from 256 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + index): byte for index, byte in enumerate(hidden)}


class Spelling:
    """Of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = cast(Any, tokenizer)
        state = self._tokenizer.decoder.__getstate__() if self._tokenizer.decoder is not None else b"{}"
        self._letters = gpt2_alphabet() if "ByteLevel" in _kinds(json.loads(state)) else None

    def bytes_of(self, token_id: int) -> bytes:
        """Nothing for special tokens, which are no text, and for ids that there are not."""
        word: str | None = self._tokenizer.id_to_token(token_id)
        added = self._tokenizer.get_added_tokens_decoder().get(token_id)
        if word is None or (added is not None and added.special):
            return b""
        if added is not None:  # as it was written, in whatever vocabulary
            return word.encode(errors="replace")
        if self._letters is not None:
            found = [self._letters.get(letter) for letter in word]
            return bytes(byte for byte in found if byte is not None)
        byte = _BYTE.fullmatch(word)
        return bytes([int(byte[1], 16)]) if byte is not None else word.replace(SPACE, " ").encode(errors="replace")


def _kinds(decoder: Any) -> set[str]:
    """The types of a decoder and of those in it."""
    if not isinstance(decoder, dict):
        return set()
    told = cast(dict[str, Any], decoder)
    inner: list[Any] = told.get("decoders") or []
    return {str(told.get("type"))}.union(*(_kinds(each) for each in inner))
