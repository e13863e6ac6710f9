"""What a request asks for reaches the sampler; what nobody can do is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.errors import ApiError
from gateway.schema import ChatMessage, ChatRequest, CompletionRequest
from gateway.wishes import answers_of, check_supported, messages_of, one_by_one, options_of, prompts_of

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def completion(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"prompt": "x", **fields})


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({**CHAT, **fields})


def test_defaults_are_openais():
    options = options_of(completion())
    assert (options["temperature"], options["max_new_tokens"], options["logprobs"]) == (1.0, 16, None)
    assert options_of(chat())["max_new_tokens"] is None, "a chat may go on as long as the gateway lets it"
    assert options_of(completion(temperature=0))["temperature"] == 0


def test_null_means_not_given():
    nothing = dict.fromkeys(("stop", "seed", "top_p", "logit_bias", "tools", "stream_options", "max_tokens", "n"))
    options = options_of(completion(**nothing))
    assert (options["stop"], options["top_p"], options["n"], options["max_new_tokens"]) == (None, None, None, 16)


def test_every_parameter_arrives():
    given = {
        "top_p": 0.9, "top_k": 7, "min_p": 0.1, "presence_penalty": 0.5, "frequency_penalty": -0.5,
        "repetition_penalty": 1.1, "seed": 5, "stop": ["a", "b"], "stop_token_ids": [3], "ignore_eos": True, "n": 2,
        "best_of": 3, "logprobs": 4, "temperature": 0.3,
    }  # fmt: skip
    options = options_of(completion(**given, max_tokens=9))
    assert {name: options[name] for name in given} == given and options["max_new_tokens"] == 9


def test_two_ways_to_say_a_thing():
    assert options_of(chat(max_tokens=3, max_completion_tokens=5))["max_new_tokens"] == 5
    assert options_of(completion(top_k=-1))["top_k"] == 0
    assert options_of(completion(seed=-1))["seed"] == 2**64 - 1
    assert options_of(completion(stop="x"))["stop"] == "x" and options_of(completion(stop=[]))["stop"] is None


def test_logprobs_of_a_chat_are_asked_for_in_two_fields():
    assert options_of(chat())["logprobs"] is None
    assert options_of(chat(logprobs=False))["logprobs"] is None
    assert options_of(chat(logprobs=True))["logprobs"] == 0
    assert options_of(chat(logprobs=True, top_logprobs=5))["logprobs"] == 5
    with pytest.raises(ApiError, match="logprobs: true") as error:
        options_of(chat(top_logprobs=5))
    assert error.value.param == "top_logprobs"


def test_every_request_without_a_seed_has_its_own():
    assert len({options_of(completion())["seed"] for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logprobs": 65}, "logprobs"),
        ({"stop": [""]}, "stop"),
        ({"n": 1000}, "n"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_what_is_out_of_range_is_named(fields: dict[str, Any], param: str):
    with pytest.raises(ApiError) as error:
        options_of(completion(**fields))
    assert (error.value.status, error.value.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [{}]}, "functions"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_what_nobody_can_do_yet_is_named(fields: dict[str, Any], param: str):
    with pytest.raises(ApiError) as error:
        check_supported(chat(**fields))
    assert (error.value.status, error.value.param) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": {}},
        {"min_tokens": 0},
        {"tools": []},
        {"response_format": {"type": "text"}},
        {"tool_choice": "none"},
        {"something_new": {"a": 1}},
        {"user": "ann", "metadata": {}, "store": False},
        {"stream_options": None},
        {"stream": True, "stream_options": {"include_usage": None, "other": 1}},
    ],
)
def test_what_asks_for_nothing_is_not_refused(fields: dict[str, Any]):
    check_supported(chat(**fields))


def test_a_completion_says_which_combinations_it_cannot():
    for fields, param in (
        ({"suffix": "x"}, "suffix"), ({"echo": True, "logprobs": 1}, "echo"),
        ({"stream": True, "best_of": 3}, "best_of"),
    ):  # fmt: skip
        with pytest.raises(ApiError) as error:
            check_supported(completion(**fields))
        assert error.value.param == param
    check_supported(completion(stream=True, best_of=2, n=2))


def test_streamed_answers_have_the_seeds_of_those_that_come_together():
    from client.choices import Choices

    options = options_of(completion(n=3, seed=11))
    each = one_by_one(options)
    assert [one["seed"] for one in each] == list(Choices(3).seeds(11)) and all(one["n"] == 1 for one in each)
    assert (answers_of(options), answers_of(options_of(completion(n=2, best_of=5)))) == (3, 5)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("x", ["x"]), (["x", "y"], ["x", "y"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_a_prompt_comes_in_four_ways(prompt: Any, prompts: Any):
    assert prompts_of(completion(prompt=prompt).prompt) == prompts


@pytest.mark.parametrize("prompt", ["", [], [""], ["x", ""]])
def test_an_empty_prompt_is_refused(prompt: Any):
    with pytest.raises(ApiError, match="empty"):
        prompts_of(completion(prompt=prompt).prompt)


@pytest.mark.parametrize("prompt", [[[]], [-1], [1 << 32], [1.5], [True], [1, "x"], {"a": 1}, None, 5])
def test_what_is_no_prompt_is_refused(prompt: Any):
    with pytest.raises(ValidationError):
        completion(prompt=prompt)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(ApiError, match="Unicode"):
        prompts_of("a\ud800")


def test_messages_are_text_in_whatever_parts():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "developer", "content": "be good"}, {"role": "user", "content": parts},
        {"role": "assistant", "content": None},
    ]  # fmt: skip
    assert messages_of([ChatMessage.model_validate(each) for each in messages]) == [
        {"role": "system", "content": "be good"}, {"role": "user", "content": "ab"},
        {"role": "assistant", "content": ""},
    ]  # fmt: skip


def test_a_picture_is_refused_by_its_place():
    message = ChatMessage.model_validate(
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    )
    with pytest.raises(ApiError, match="image_url") as error:
        messages_of([message])
    assert error.value.param == "messages.0.content"


def test_bias_and_least_length_arrive():
    options = options_of(completion(logit_bias={"5": 1, "7": -100}, min_tokens=4))
    assert (options["logit_bias"], options["min_tokens"]) == ({5: 1.0, 7: -100.0}, 4)
    assert options_of(chat(logit_bias={}))["logit_bias"] is None
    for fields, param in (
        ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"), ({"min_tokens": 17}, "min_tokens"),
    ):  # fmt: skip
        with pytest.raises(ApiError) as error:
            options_of(completion(**fields))
        assert (error.value.status, error.value.param) == (400, param)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("wanted", "schema"),
    [
        (None, None), ({"type": "text"}, None), ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, {"type": "object"}),
    ],
)  # fmt: skip
def test_a_response_format_is_a_schema(wanted: Any, schema: Any):
    assert options_of(chat(response_format=wanted))["json_schema"] == schema
    assert options_of(completion(response_format=wanted))["json_schema"] == schema


def test_a_response_format_that_says_nothing_or_too_much_is_named():
    for wanted in (
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"schema": {"description": "x" * 70000}}},
    ):
        with pytest.raises(ApiError) as error:
            options_of(chat(response_format=wanted))
        assert (error.value.status, error.value.param) == (400, "response_format")
    with pytest.raises(ValidationError):
        chat(response_format={"type": "xml"})


def test_calls_and_their_results_reach_the_template():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    request = chat(
        messages=[
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "ok"},
        ]
    )
    assert messages_of(request.messages) == [
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
        ]},
        {"role": "tool", "content": "ok", "name": "f", "tool_call_id": "c1"},
    ]  # fmt: skip
    for arguments in ("{", "[1]", "[" * 100_000):
        call["function"] = {"name": "f", "arguments": arguments}
        with pytest.raises(ApiError, match="no JSON object") as error:
            messages_of(chat(messages=[{"role": "assistant", "tool_calls": [call]}]).messages)
        assert error.value.param == "messages.0.tool_calls.0.function.arguments"
