"""The bytes of tokens together are the text's bytes, whatever the vocabulary writes them as."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from client.spelling import Spelling, gpt2_alphabet
from tests.client.words import END, tokenizer

WORDS = tokenizer()


def sentencepiece() -> Tokenizer:
    """Bytes as ``<0x..>``, spaces as ``▁``, as Llama 2 has it."""
    entries = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a"]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a")], byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    replace, fallback = decoders.Replace("▁", " "), decoders.ByteFallback()
    made.decoder = decoders.Sequence([replace, fallback, decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.add_special_tokens([AddedToken("<end>", special=True)])
    made.add_tokens([AddedToken("<tool▁>", special=False)])
    return made


PIECES = sentencepiece()


def test_the_alphabet_is_that_of_the_library():
    assert set(gpt2_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(gpt2_alphabet().values()) == list(range(256))


@pytest.mark.parametrize("made", [WORDS, PIECES], ids=["letters", "bytes"])
@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="▁"), max_size=30))
def test_the_bytes_of_all_tokens_are_those_of_the_text(made: Tokenizer, text: str):
    spelling = Spelling(made)
    assert b"".join(map(spelling.bytes_of, made.encode(text, add_special_tokens=False).ids)) == text.encode()


def test_half_a_letter_is_half_its_bytes():
    ids = WORDS.encode("é", add_special_tokens=False).ids
    assert [Spelling(WORDS).bytes_of(token_id) for token_id in ids] == [b"\xc3", b"\xa9"]


def test_a_space_in_front_is_not_lost():
    (token_id,) = PIECES.encode(" a", add_special_tokens=False).ids
    assert PIECES.decode([token_id]) == "a" and Spelling(PIECES).bytes_of(token_id) == b" a"


def test_special_tokens_and_unknown_ids_have_none_and_added_words_are_as_written():
    assert Spelling(WORDS).bytes_of(END) == Spelling(WORDS).bytes_of(5000) == b""
    assert Spelling(PIECES).bytes_of(PIECES.token_to_id("<end>")) == b""
    assert Spelling(PIECES).bytes_of(PIECES.token_to_id("<tool▁>")) == "<tool▁>".encode()
