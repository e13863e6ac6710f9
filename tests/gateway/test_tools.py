"""What tools become: for templates, for the sampler's grammar, for the reader; and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from tokenizers import Tokenizer

from gateway.errors import ApiError
from gateway.schema import ChatRequest
from gateway.tool_reader import ToolFormat
from gateway.tools import MAX_TOOLS, for_template, format_of, grammar, offered, reader
from model.constraint import Constraints
from model.grammar import read_tokenizer
from swarm.sampling import Grammar, GrammarKind
from tests.client.words import END, tokenizer

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather", "description": "of a city",
        "parameters": {
            "type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "required": ["city"],
            "additionalProperties": False, "$defs": {"city": {"enum": ["Rome", "Oslo"]}},
        },
    },
}  # fmt: skip
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now"}}


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": "hi"}], **fields})


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def test_which_tools_the_model_is_told_of():
    assert offered(chat()) == [] and offered(chat(tools=[])) == []
    assert offered(chat(tools=[NOW], tool_choice="none")) == []
    for choice in (None, "auto", "required", named("now")):
        assert [tool.function.name for tool in offered(chat(tools=[NOW, WEATHER], tool_choice=choice))] == [
            "now", "weather"
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [NOW] * (MAX_TOOLS + 1)}, "tools"),
        ({"tools": [NOW], "tool_choice": named("f")}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [NOW], "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_contradicts_itself_is_named(fields: dict[str, Any], param: str):
    with pytest.raises(ApiError) as error:
        offered(chat(**fields))
    assert (error.value.status, error.value.param) == (400, param)


def test_a_schema_and_tools_that_are_not_used_go_together():
    wish = {"tools": [NOW], "tool_choice": "none", "response_format": {"type": "json_object"}}
    assert offered(chat(**wish)) == []


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{% if tools %}… <tool_call> …{% endif %}", ToolFormat.HERMES),
        ('{% if tools %}Respond in the format {"name": function name, "parameters": …}{% endif %}', ToolFormat.LLAMA),
        ("""{{- '{"name": "' + f + '", ' }}{{- '"parameters": ' }}{{ tools }}""", ToolFormat.LLAMA),
    ],
)
def test_the_template_says_how_its_model_calls(template: str, form: ToolFormat):
    assert format_of(template) is form


@pytest.mark.parametrize("template", ["", "{{ messages }}", "{{ tools }} [TOOL_CALLS]"])
def test_a_template_that_does_not_is_no_good_for_tools(template: str):
    with pytest.raises(ApiError) as error:
        format_of(template)
    assert (error.value.status, error.value.param) == (400, "tools")


def test_templates_get_tools_as_transformers_has_them():
    first, second = for_template(offered(chat(tools=[WEATHER, NOW])))
    assert first["function"] == WEATHER["function"]
    assert second["function"]["parameters"] == {"type": "object", "properties": {}}


def fits(lark: str, text: str) -> bool:
    """Whether ``text`` is an answer that may end there."""
    words = tokenizer()
    constraints = Constraints(lambda: read_tokenizer(words.to_str(), 1000, [END]), 1000)
    ids = [*Tokenizer.encode(words, text).ids, END]
    wanted = Grammar(GrammarKind.LARK, lark)
    return all(constraints.mask(1, wanted, ids[:length])[ids[length]] for length in range(len(ids)))


ROME = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
TIME = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("fields", "text", "good"),
    [
        ({"tool_choice": "required"}, ROME, True),
        ({"tool_choice": "required"}, TIME, True),
        ({"tool_choice": "required"}, f"{ROME}\n{TIME}", True),
        ({"tool_choice": "required"}, ROME.replace("Rome", "Bonn"), False),
        ({"tool_choice": "required"}, ROME.replace("weather", "now"), False),
        ({"tool_choice": "required"}, "text", False),
        ({"tool_choice": "required", "parallel_tool_calls": False}, ROME, True),
        ({"tool_choice": "required", "parallel_tool_calls": False}, f"{ROME}\n{TIME}", False),
        ({"tool_choice": named("now")}, TIME, True),
        ({"tool_choice": named("now")}, ROME, False),
        ({"tool_choice": named("now")}, f"{TIME}\n{TIME}", False),
    ],
)
def test_calls_that_have_to_come_are_a_grammar(fields: dict[str, Any], text: str, good: bool):
    lark = grammar(chat(tools=[WEATHER, NOW], **fields), ToolFormat.HERMES)
    assert lark is not None and fits(lark, text) is good


def test_llamas_calls_are_json_alone():
    lark = grammar(chat(tools=[WEATHER, NOW], tool_choice="required"), ToolFormat.LLAMA)
    assert lark is not None
    assert fits(lark, '{"name": "weather", "parameters": {"city": "Oslo"}}') and not fits(lark, ROME)


def test_where_none_has_to_come_the_model_is_free():
    assert grammar(chat(tools=[NOW]), ToolFormat.HERMES) is None
    assert grammar(chat(tools=[NOW], tool_choice="auto"), ToolFormat.HERMES) is None


def test_what_is_drawn_by_the_grammar_is_read_back():
    found = reader(chat(tools=[WEATHER], tool_choice="required"), ToolFormat.HERMES)
    gained = found.push(f"{ROME}\n{TIME}")
    names = [begun[1] for _, begun, _ in gained.calls if begun is not None]
    ids = [begun[0] for _, begun, _ in gained.calls if begun is not None]
    assert names == ["weather", "now"] and len(set(ids)) == 2 and all(each.startswith("call_") for each in ids)
    arguments = json.loads("".join(letters for index, _, letters in gained.calls if index == 0))
    jsonschema.validate(arguments, WEATHER["function"]["parameters"])
    one = reader(chat(tools=[WEATHER], parallel_tool_calls=False), ToolFormat.HERMES).push(f"{ROME}\n{TIME}")
    assert {index for index, _, _ in one.calls} == {0}
