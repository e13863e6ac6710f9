"""Bodies and chunks have OpenAI's fields, and none that say nothing."""

from __future__ import annotations

from client.result import Piece, Result, TokenLogprob
from gateway.dialect import ChatDialect, CompletionDialect, Envelope, Usage
from gateway.responses import Script

WORDS = {1: "a", 2: "bc", 3: "é"}


def spell(token_id: int) -> bytes:
    return decode((token_id,)).encode()


def decode(token_ids) -> str:
    return "".join(WORDS.get(i, "") for i in token_ids)


def piece(text: str, token_id: int = 1, *logprobs: TokenLogprob) -> Piece:
    return Piece(text, (token_id,), tuple(logprobs) or None, [], 0)


def result(text: str = "abc", logprobs: tuple[TokenLogprob, ...] | None = None, cached: int = 0) -> Result:
    return Result(text, (1, 2), logprobs, "length", 5, 2, 0.1, 10.0, [], 0, 7, cached)


TWO = (TokenLogprob(1, -0.5, ((1, -0.5), (2, -1.0))), TokenLogprob(3, -2.0))


def test_a_chat_answer_is_opened_told_and_ended():
    chat = ChatDialect(spell)
    assert chat.opening(0) == {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    assert chat.delta(1, piece("x")) == {"index": 1, "delta": {"content": "x"}, "finish_reason": None}
    assert chat.ending(0, result()) == {"index": 0, "delta": {}, "finish_reason": "length"}
    whole = {"index": 0, "message": {"role": "assistant", "content": "abc"}, "finish_reason": "length"}
    assert chat.whole(0, result()) == whole


def test_logprobs_of_a_chat_have_bytes_and_alternatives():
    found = ChatDialect(spell).whole(0, result(logprobs=TWO))["logprobs"]["content"]
    assert found[0] == {
        "token": "a", "logprob": -0.5, "bytes": [97],
        "top_logprobs": [
            {"token": "a", "logprob": -0.5, "bytes": [97]}, {"token": "bc", "logprob": -1.0, "bytes": [98, 99]}
        ],
    }  # fmt: skip
    assert found[1] == {"token": "é", "logprob": -2.0, "bytes": [195, 169], "top_logprobs": []}


def test_a_completion_echoes_its_prompt_once():
    said = CompletionDialect(decode, ["Q: ", ""])
    assert said.whole(0, result()) == {"index": 0, "text": "Q: abc", "finish_reason": "length"}
    assert said.opening(0) == {"index": 0, "text": "Q: ", "finish_reason": None} and said.opening(1) is None
    assert said.delta(0, piece("x")) == {"index": 0, "text": "x", "finish_reason": None}


def test_logprobs_of_a_completion_go_on_counting_letters_over_a_stream():
    said = CompletionDialect(decode, ["", ""])
    offsets = [
        said.delta(0, piece("", one.token_id, one))["logprobs"]["text_offset"] for one in (TWO[0], TWO[1], TWO[0])
    ]
    assert offsets == [[0], [1], [2]]
    assert said.delta(1, piece("", 1, TWO[0]))["logprobs"] == {
        "tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "bc": -1.0}], "text_offset": [0],
    }  # fmt: skip


def test_of_alternatives_with_the_same_text_the_likeliest_is_told():
    token = TokenLogprob(8, -0.5, ((8, -0.5), (9, -1.0)))
    said = CompletionDialect(decode, [""]).delta(0, piece("", 8, token))
    assert said["logprobs"]["top_logprobs"] == [{"": -0.5}]


def script(**choices: bool) -> Script:
    envelope = Envelope("chatcmpl-1", "m", "ab" * 16, 3)
    given = {"include_usage": False, "continuous": False, **choices}
    return Script(ChatDialect(spell), envelope, Usage(5), **given)


def test_a_stream_says_nothing_of_usage_unless_it_was_asked_for():
    told = script()
    chunks = [*told.write((0, piece("x"))), *told.write((0, result())), *told.close()]
    assert len(chunks) == 3 and all("usage" not in chunk and "logprobs" not in chunk["choices"][0] for chunk in chunks)
    assert {key: chunks[0][key] for key in ("id", "object", "created", "model", "system_fingerprint")} == {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 3, "model": "m",
        "system_fingerprint": "fp_abababababab",
    }  # fmt: skip


def test_usage_comes_in_a_last_chunk_without_choices():
    told = script(include_usage=True)
    chunks = [*told.write((0, piece("x"))), *told.write((0, result(cached=4))), *told.close()]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == {
        "prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6, "prompt_tokens_details": {"cached_tokens": 4},
    }  # fmt: skip
    assert all("usage" not in chunk for chunk in chunks[:-1])


def test_usage_may_be_told_all_the_time():
    told = script(continuous=True)
    counts = [told.write((index, piece("x")))[-1]["usage"]["completion_tokens"] for index in (0, 1, 0)]
    assert counts == [1, 2, 3] and told.close() == []
