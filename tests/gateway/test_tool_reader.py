"""Text in, content and calls out: the same however the text is cut into pieces."""

from __future__ import annotations

from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tool_reader import LONGEST_HEAD, Gained, ToolFormat, ToolReader

HERMES, LLAMA = ToolFormat.HERMES, ToolFormat.LLAMA
Call = tuple[str, str]


def read(form: ToolFormat, pieces: list[str], most: int | None = None) -> tuple[str, list[Call]]:
    """The content; (name, arguments) of every call."""
    numbers = count()
    reader = ToolReader(form, lambda: f"id{next(numbers)}", most)
    content, calls = "", list[list[str]]()

    def take(gained: Gained) -> None:
        nonlocal content
        content += gained.content
        for index, begun, letters in gained.calls:
            if begun is not None:
                assert index == len(calls) and begun[0] == f"id{index}" and not letters
                calls.append([begun[1], ""])
            calls[index][1] += letters

    for piece in pieces:
        take(reader.push(piece))
    take(reader.finish())
    return content, [(name, arguments) for name, arguments in calls]


CASES: list[tuple[ToolFormat, str, str, list[Call]]] = [
    (HERMES, "just text, a < b", "just text, a < b", []),
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', "", [("f", '{"a": 1}')]),
    (HERMES, 'I call.\n<tool_call>{"name":"f","arguments":{}}</tool_call>', "I call.\n", [("f", "{}")]),
    (
        HERMES,
        '<tool_call>\n{"name": "f", "arguments": {"s": "}\\"{</tool_call>"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g.h-1", "arguments": {"l": [{"x": []}, 2]}}\n</tool_call>',
        "",
        [("f", '{"s": "}\\"{</tool_call>"}'), ("g.h-1", '{"l": [{"x": []}, 2]}')],
    ),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1', "", [("f", '{"a": 1')]),
    (HERMES, "<tool_call>nonsense</tool_call>", "<tool_call>nonsense</tool_call>", []),
    (HERMES, "<tool_", "<tool_", []),
    (HERMES, '<tool_call>{"name": "f", "arguments": 5}', '<tool_call>{"name": "f", "arguments": 5}', []),
    (LLAMA, "plain {", "plain {", []),
    (LLAMA, '{"name": "f", "parameters": {"a": {"b": "ü"}}}', "", [("f", '{"a": {"b": "ü"}}')]),
    (LLAMA, '\n{"name":"f","parameters":{}}; {"name":"g","parameters":{}}', "", [("f", "{}"), ("g", "{}")]),
    (LLAMA, '{"answer": 5}', '{"answer": 5}', []),
    (LLAMA, '{"name": "f", "parameters": {}}\nDone.', "Done.", [("f", "{}")]),
]


@pytest.mark.parametrize(("form", "text", "content", "calls"), CASES)
def test_calls_are_found_and_everything_else_is_content(form: Any, text: str, content: str, calls: list[Call]):
    said, found = read(form, [text])
    assert found == calls and said.strip() == content.strip()
    assert read(form, list(text))[1] == calls and read(form, list(text))[0].strip() == content.strip()


@given(case=st.sampled_from(CASES), cuts=st.lists(st.integers(0, 120), max_size=6))
def test_how_it_is_cut_makes_no_difference(case: tuple[ToolFormat, str, str, list[Call]], cuts: list[int]):
    form, text, _, calls = case
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    said, found = read(form, [text[a:b] for a, b in pairwise(edges)])
    assert found == calls and said.strip() == read(form, [text])[0].strip()


def test_arguments_are_told_as_they_come():
    reader = ToolReader(HERMES, lambda: "id")
    heard = [reader.push(piece).calls for piece in ('<tool_call>{"name": "f", ', '"arguments": {"a', '": 1}', "}")]
    assert heard == [[], [(0, ("id", "f"), ""), (0, None, '{"a')], [(0, None, '": 1}')], []]
    assert reader.count == 1


def test_of_calls_only_so_many_are_told():
    text = '<tool_call>{"name":"f","arguments":{}}</tool_call>' * 3
    assert read(HERMES, [text], most=1) == ("", [("f", "{}")])


def test_what_never_becomes_a_call_is_not_held_for_ever():
    reader = ToolReader(HERMES, lambda: "id")
    gained = reader.push("<tool_call>" + "x" * (LONGEST_HEAD + 1))
    assert gained.content.startswith("<tool_call>xxx") and reader.push("more").content == "more"
