"""When a generation is over, and what its Result says."""

from __future__ import annotations

import json

import pytest

from client.result import Leg
from client.sampling import Options, read_options
from client.text import Codec
from client.writer import Writer
from proto.messages import Token
from swarm.route import Hop, Route
from swarm.span import Span
from tests.client.words import END, directory
from tests.support.hash_engine import hash_peer

ROUTE = Route((Hop(hash_peer(1, 0, 6), Span(0, 6)),))


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec(directory(tmp_path_factory.mktemp("words")))


def write(
    codec: Codec, text: str, limit: int = 100, options: Options | None = None, end: bool = False
) -> tuple[Writer, list[str]]:
    wish = read_options(options or {}, eos_token_ids=(END,))
    writer = Writer(codec, [1], wish, limit, begun=10.0)
    shown: list[str] = []
    for n, token_id in enumerate([*codec.encode(text), *([END] if end else [])]):
        if writer.finish_reason is None:
            shown.append(writer.write(Token(n, n + 1, token_id, -0.5, ((token_id, -0.5),)), 12.0 + n, ROUTE, 0).text)
    return writer, shown


def test_it_ends_at_the_limit_and_half_a_letter_is_shown_then(codec: Codec):
    writer, shown = write(codec, "é€", limit=4)
    assert (writer.finish_reason, shown) == ("length", ["", "é", "", "\ufffd"])


def test_it_ends_at_an_end_token_which_counts_but_shows_nothing(codec: Codec):
    writer, _ = write(codec, "ab", end=True)
    result = writer.result(ROUTE, 0)
    assert (result.finish_reason, result.text, result.token_ids[-1]) == ("stop", "ab", END)
    assert result.completion_tokens == len(result.token_ids)


def test_an_ignored_end_token_is_one_like_any_other(codec: Codec):
    writer, _ = write(codec, "ab", options={"ignore_eos": True}, end=True)
    assert writer.finish_reason is None


def test_a_stop_string_cuts_the_text_and_what_was_held_back_is_shown_otherwise(codec: Codec):
    writer, shown = write(codec, "x}yz", options={"stop": "}y"})
    assert (writer.finish_reason, "".join(shown)) == ("stop", "x")
    writer, shown = write(codec, "x}", limit=2, options={"stop": "}y"})
    assert (writer.finish_reason, "".join(shown)) == ("length", "x}")
    writer, shown = write(codec, "x}", options={"stop": "}y"})
    assert ("".join(shown), writer.result(ROUTE, 0).text) == ("x", "x}")


def test_a_half_letter_at_the_end_can_still_complete_no_stop(codec: Codec):
    writer, shown = write(codec, "ab\ufffd", limit=4, options={"stop": "zzz"})
    assert "".join(shown).startswith("ab") and writer.finish_reason == "length"


def test_times_count_from_the_call_and_from_the_first_token(codec: Codec):
    result = write(codec, "{}{}{}", limit=5)[0].result(ROUTE, 2)
    assert (result.ttft_s, result.tokens_per_s, result.failovers) == (2.0, 1.0, 2)
    single = write(codec, "{", limit=1)[0].result(ROUTE, 0)
    assert (single.ttft_s, single.tokens_per_s) == (2.0, 0.5)


def test_a_generation_that_broke_off_has_true_numbers_and_all_its_text(codec: Codec):
    writer, shown = write(codec, "ab}\u20ac"[:3])
    for n, token_id in enumerate(codec.encode("\u20ac")[:2], 3):
        shown.append(writer.write(Token(n, n + 1, token_id), 12.0 + n, ROUTE, 0).text)
    result = writer.result(ROUTE, 1)
    assert (result.finish_reason, result.text, "".join(shown)) == ("error", "ab}\ufffd", "ab}")
    assert result.completion_tokens == len(result.token_ids) > 3 and result.prompt_tokens == 1
    assert result.ttft_s == 2.0 and result.tokens_per_s > 0 and result.failovers == 1
    assert result == writer.result(ROUTE, 1), "asked twice it says the same"


def test_logprobs_are_there_where_they_were_wanted_and_json_has_exactly_the_promised_fields(codec: Codec):
    result = write(codec, "{}", limit=2, options={"logprobs": 1})[0].result(ROUTE, 0)
    assert result.logprobs is not None and [entry.token_id for entry in result.logprobs] == list(result.token_ids)
    fields = json.loads(json.dumps(result.as_json()))
    assert list(fields) == [
        "text", "token_ids", "logprobs", "finish_reason", "prompt_tokens", "completion_tokens",
        "ttft_s", "tokens_per_s", "route", "failovers", "cached_tokens", "accepted_tokens", "shape",
    ]  # fmt: skip
    assert fields["route"] == [Leg(peer=f"{1:032x}", blocks=[0, 6])]
    token_id = result.token_ids[0]
    assert fields["logprobs"][0] == {"token_id": token_id, "logprob": -0.5, "top": [[token_id, -0.5]]}
    assert write(codec, "{}", limit=2)[0].result(ROUTE, 0).logprobs is None
