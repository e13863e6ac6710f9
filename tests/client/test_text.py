"""Text in and out: half letters, stop strings over token borders, chat templates, broken files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.text import Codec, Detokeniser, StopFinder, check_messages, check_text, generation_defaults
from swarm.errors import CorruptCheckpoint, UsageError
from tests.client.words import END, directory, tokenizer


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec(directory(tmp_path_factory.mktemp("words")))


def shown(codec: Codec, prompt: list[int], token_ids: list[int]) -> list[str]:
    writer = Detokeniser(codec, prompt)
    return [*(writer.push(t) for t in token_ids), writer.finish()]


def test_a_letter_of_several_tokens_comes_whole_with_its_last(codec: Codec):
    token_ids = list(codec.encode("é€🙂"))
    pieces = shown(codec, [], token_ids)
    assert [p for p in pieces if p] == ["é", "€", "🙂"]
    assert len(token_ids) == 2 + 3 + 4


def test_special_tokens_show_nothing(codec: Codec):
    assert "".join(shown(codec, [], [END, *codec.encode("ab"), END, *codec.encode("cd")])) == "abcd"


@settings(max_examples=200, deadline=None)
@given(prompt=st.text(max_size=20), text=st.text(max_size=60))
def test_the_pieces_of_a_text_are_the_text(codec: Codec, prompt: str, text: str):
    assert "".join(shown(codec, list(codec.encode(prompt)), list(codec.encode(text)))) == text


@pytest.mark.parametrize("letter", ["é", "€", "🙂"])
def test_a_letter_that_begins_in_the_prompt_is_shown_whole(codec: Codec, letter: str):
    ids = list(codec.encode(f"x{letter}y"))
    for cut in range(2, len(ids) - 1):
        assert "".join(shown(codec, ids[:cut], ids[cut:])) == f"{letter}y"


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=30), data=st.data())
def test_wherever_the_prompt_ends_no_letter_is_lost(codec: Codec, text: str, data: st.DataObject):
    ids = list(codec.encode(text))
    cut = data.draw(st.integers(0, len(ids)))
    said, answer = codec.decode(ids[:cut]), "".join(shown(codec, ids[:cut], ids[cut:]))
    assert text in (said + answer, said.rstrip("\ufffd") + answer)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 999), max_size=60))
def test_the_pieces_of_any_tokens_are_what_decoding_them_together_gives(codec: Codec, token_ids: list[int]):
    assert "".join(shown(codec, [], token_ids)) == codec.decode(token_ids)


def test_the_first_space_of_an_answer_is_kept_where_a_decoder_would_strip_it(tmp_path: Path):
    from tokenizers import Tokenizer, decoders, models

    words = Tokenizer(models.BPE(vocab={"▁def": 0, "▁fib": 1, "▁(": 2, "n": 3}, merges=[]))
    words.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    (tmp_path / "tokenizer.json").write_text(words.to_str())
    assert shown(Codec(tmp_path), [0], [1, 2, 3]) == [" fib", " (", "n", ""]


# Stop strings.


def find(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    finder = StopFinder(stops)
    text = "".join(finder.push(piece) for piece in pieces)
    return text + finder.finish(), finder.stopped


def test_a_stop_that_spans_tokens_is_found_and_nothing_of_it_is_shown():
    finder = StopFinder(["\n\nclass"])
    assert [finder.push(p) for p in ["x = 1", "\n", "\ncl", "ass Foo", " more"]] == ["x = 1", "", "", "", ""]
    assert finder.stopped


def test_what_only_looked_like_a_stop_is_shown_late_but_shown():
    finder = StopFinder(["END"])
    assert [finder.push(p) for p in ["a E", "N", "C"]] == ["a ", "", "ENC"]
    assert finder.finish() == "" and not finder.stopped
    assert find(["a EN"], ["END"]) == ("a EN", False)


def test_of_two_stops_the_one_complete_first_counts_and_of_those_the_longer():
    assert find(["abcd"], ["abcd", "bc"]) == ("a", True)
    assert find(["xabc"], ["c", "abc"]) == ("x", True)


@settings(max_examples=300, deadline=None)
@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_how_the_text_is_cut_makes_no_difference(text: str, stops: list[str], data: st.DataObject):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, stopped = find([text], stops)
    assert find(pieces, stops) == (whole, stopped)
    assert find(list(text), stops) == (whole, stopped)
    assert not any(stop in whole for stop in stops)
    assert stopped == any(stop in text for stop in stops)


# Chat and files.


def test_a_chat_is_written_by_the_models_own_template(codec: Codec):
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert codec.has_chat_template
    assert codec.decode(codec.chat_prompt(messages)) == "<system>be brief\n<user>hi\n<assistant>"


def test_a_model_without_a_template_says_so(tmp_path: Path):
    plain = Codec(directory(tmp_path, chat=False))
    assert not plain.has_chat_template
    with pytest.raises(UsageError, match="no chat template"):
        plain.chat_prompt([{"role": "user", "content": "hi"}])


def test_a_template_cannot_reach_the_machine(tmp_path: Path):
    evil = directory(tmp_path, chat=False)
    (evil / "chat_template.jinja").write_text("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(UsageError, match="template"):
        Codec(evil).chat_prompt([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"content": "x"}], [{"role": "user", "content": 3}]])
def test_messages_that_say_nothing_are_refused(messages: list):
    with pytest.raises(UsageError, match="message"):
        check_messages(messages)


def test_a_broken_tokenizer_is_a_model_error(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptCheckpoint, match=r"tokenizer\.json"):
        Codec(tmp_path)


def test_without_a_tokenizer_token_ids_still_work(tmp_path: Path):
    bare = Codec(tmp_path)
    assert "".join(shown(bare, [1], [2, 3])) == ""
    with pytest.raises(UsageError, match="token ids"):
        bare.encode("text")


@pytest.mark.parametrize("content", [None, "[1]", "{", '{"top_k": 5}'])
def test_generation_defaults_are_taken_where_they_make_sense(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "generation_config.json").write_text(content)
    assert generation_defaults(tmp_path) == ({"top_k": 5} if content and "top_k" in content else {})


def test_the_tokenizer_of_these_tests_is_what_it_says():
    assert tokenizer().decode(tokenizer().encode("héllo_wörld").ids) == "héllo_wörld"


@pytest.mark.parametrize("text", ["\ud800", "caf\udcff"])
def test_half_a_surrogate_pair_is_no_text(text: str):
    with pytest.raises(UsageError, match="the prompt is not valid Unicode text"):
        check_text(text)
    with pytest.raises(UsageError, match="a chat message is not valid Unicode text"):
        check_messages([{"role": "user", "content": text}])
    check_text("café \U0001f642")


@pytest.mark.parametrize("messages", ["hi", [5], ["hi"], 5, None, {"role": "user", "content": "hi"}, [{"role": 1}]])
def test_what_is_no_conversation_is_told(messages: object):
    with pytest.raises(UsageError, match=r"a chat (needs at least one|message needs a role)"):
        check_messages(messages)  # type: ignore[arg-type]


def test_defaults_nested_without_end_are_none(tmp_path: Path):
    (tmp_path / "generation_config.json").write_text("[" * 100_000)
    assert generation_defaults(tmp_path) == {}


ALL_AT_ONCE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from client.text import Codec

codec = Codec(Path(sys.argv[1]))
with ThreadPoolExecutor(8) as pool:
    print({*pool.map(codec.chat_prompt, [[{"role": "user", "content": "hi"}]] * 8)})
"""


def test_the_first_chats_of_a_process_may_come_all_at_once(codec: Codec, tmp_path: Path):
    """In a process of its own: transformers is imported once, and not safely by several threads."""
    command = [sys.executable, "-c", ALL_AT_ONCE, str(directory(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.strip() == str({codec.chat_prompt([{"role": "user", "content": "hi"}])})
