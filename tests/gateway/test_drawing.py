"""Schemas and tools through real peers and the ``openai`` package. The model writes nonsense, but it has to fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from benchmarks.kit.gateways import LocalGateway
from peer.local import LocalSwarm

SAMPLE = Path(__file__).resolve().parent.parent.parent / "model" / "sample"
HERMES = (  # the parts of Qwen's own that matter here
    "{% if tools %}<|tools|>{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "Call with <tool_call>{\"name\": …, \"arguments\": …}</tool_call>\n{% endif %}"
    "{% for m in messages %}# {{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.arguments.city }}</tool_call>{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}# assistant: {% endif %}"
)  # fmt: skip
MESSAGES: Any = [{"role": "user", "content": "Which size?"}]
CITY: dict[str, Any] = {
    "type": "object", "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
NOW: Any = {"type": "function", "function": {"name": "now"}}
NAMED: Any = {"type": "function", "function": {"name": "weather"}}


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid")

    colour: Literal["red", "green"] = Field(description="of it")
    width: int = Field(ge=1, le=99)
    label: str | None = Field(max_length=8)
    parts: list[Literal["a", "b"]] = Field(max_length=2)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = tmp_path_factory.mktemp("sample") / "sample"
    shutil.copytree(SAMPLE, model, ignore=shutil.ignore_patterns("*.py", "*.md"))
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": HERMES}))
    common = ("--model", str(model), "--threads", "1", "--log-level", "warning", "--kv-tokens", "8192")
    with LocalSwarm(*common) as swarm:
        swarm.start(["0:12", "12:24"])
        with LocalGateway(swarm.join) as gateway:
            yield gateway.ready["api"]


@pytest.fixture(scope="module")
def client(api: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=api, api_key="none", max_retries=0, timeout=30) as made:
        yield made


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(
        **{"model": client.models.list().data[0].id, "messages": MESSAGES, "max_tokens": 150, "seed": 1, **fields}
    )


@pytest.mark.swarm
def test_a_json_object_is_one(client: openai.OpenAI):
    choice = ask(client, response_format={"type": "json_object"}, temperature=0.7, max_tokens=400).choices[0]
    assert choice.message.content.startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.swarm
def test_an_answer_is_parsed_into_a_model_of_pydantic(client: openai.OpenAI):
    name = client.models.list().data[0].id
    for seed in (1, 2):
        whole = client.chat.completions.parse(
            model=name, messages=MESSAGES, response_format=Size, max_tokens=150, seed=seed
        )
        assert isinstance(whole.choices[0].message.parsed, Size)
        with client.chat.completions.stream(
            model=name, messages=MESSAGES, response_format=Size, max_tokens=150, seed=seed
        ) as stream:
            streamed = stream.get_final_completion()
        assert streamed.choices[0].message.content == whole.choices[0].message.content
        assert streamed.choices[0].message.parsed == whole.choices[0].message.parsed


@pytest.mark.swarm
def test_every_one_of_several_answers_fits(client: openai.OpenAI):
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}
    answer = ask(client, response_format=wanted, n=3, temperature=1.5)
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.message.content), CITY)
    chunks = list(ask(client, response_format=wanted, n=3, temperature=1.5, stream=True))
    for index in range(3):
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices[0].index == index)
        assert said == answer.choices[index].message.content


@pytest.mark.swarm
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "objekt"),
        ({"not": {}}, "not"),
        ({"allOf": [{"type": "string", "pattern": f".*{n}.*"} for n in range(60)]}, "too much"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_is_a_bad_request(client: openai.OpenAI, schema: Any, words: str, stream: bool):
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match=words) as error:
        ask(client, response_format=wanted, stream=stream)
    assert error.value.param == "response_format"
    bad: Any = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}}},
    }
    with pytest.raises(openai.BadRequestError, match=words) as error:
        ask(client, tools=[bad], tool_choice="required", stream=stream)
    assert error.value.param == "tools"


@pytest.mark.swarm
@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_call_that_has_to_come_comes(client: openai.OpenAI, choice: Any):
    wish: dict[str, Any] = {"tools": [WEATHER, NOW], "tool_choice": choice, "parallel_tool_calls": False}
    answer = ask(client, **wish).choices[0]
    (call,) = answer.message.tool_calls
    assert answer.finish_reason == "tool_calls" and answer.message.content is None and call.type == "function"
    arguments = json.loads(call.function.arguments)
    if choice is NAMED or call.function.name == "weather":
        assert call.function.name == "weather"
        jsonschema.validate(arguments, CITY)
    name = client.models.list().data[0].id
    with client.chat.completions.stream(model=name, messages=MESSAGES, max_tokens=150, seed=1, **wish) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls" and streamed.message.tool_calls is not None
    (again,) = streamed.message.tool_calls
    assert (again.function.name, again.function.arguments) == (call.function.name, call.function.arguments)


@pytest.mark.swarm
def test_a_conversation_with_calls_goes_on(client: openai.OpenAI):
    call: Any = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        *MESSAGES, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]  # fmt: skip
    said = [
        ask(client, messages=messages, temperature=0, max_tokens=12, tools=tools)
        for tools in ([WEATHER], openai.NOT_GIVEN)
    ]
    assert all(each.choices[0].message.content and not each.choices[0].message.tool_calls for each in said)
    assert said[0].usage.prompt_tokens > said[1].usage.prompt_tokens > 10, "the template was told of them"
    free = ask(client, temperature=0, max_tokens=12, tools=[WEATHER], tool_choice="none")
    assert free.usage.prompt_tokens < said[1].usage.prompt_tokens


@pytest.mark.swarm
def test_biases_and_a_least_length_do_what_they_say(client: openai.OpenAI):
    name = client.models.list().data[0].id
    wish: dict[str, Any] = {"model": name, "prompt": "def", "temperature": 0, "logprobs": 0}
    same = client.completions.create(**wish, max_tokens=4, logit_bias={"13": 100}).choices[0]
    assert same.logprobs is not None and len(set(same.logprobs.tokens or ())) == 1
    ended = client.completions.create(**wish, max_tokens=20, logit_bias={"0": 90}).usage
    later = client.completions.create(**wish, max_tokens=20, logit_bias={"0": 90}, extra_body={"min_tokens": 7}).usage
    assert ended is not None and later is not None and (ended.completion_tokens, later.completion_tokens) == (1, 8)
