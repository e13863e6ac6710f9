"""Every route over a real swarm in this process, without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.aliases import read_aliases
from gateway.config import GatewayConfig
from tests.client.loopback import MAX_POSITIONS
from tests.gateway.house import House, house
from tests.support.hash_engine import MODEL, undisturbed

PROMPT = "def fib_"
GREEDY = {"temperature": 0, "ignore_eos": True}
COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


def events(text: str) -> list[Any]:
    """Of a stream, which must be well formed and end with [DONE]."""
    lines = text.split("\n\n")
    assert lines[-1] == "" and lines[-2] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines[:-1])
    return [json.loads(line[6:]) for line in lines[:-2]]


def texts(chunks: list[Any]) -> dict[int, str]:
    """Of the answers in a stream, by their index."""
    found: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        said = choice.get("text") if "text" in choice else choice["delta"].get("content", "")
        found[choice["index"]] = found.get(choice["index"], "") + said
    return found


async def test_models_are_listed_with_their_length(there: House):
    listed = (await there.http.get("/v1/models")).json()
    assert listed["object"] == "list" and len(listed["data"]) == 1
    model = listed["data"][0]
    assert (model["id"], model["max_model_len"]) == (MODEL.name, MAX_POSITIONS)
    assert (await there.http.get(f"/v1/models/{MODEL.name}")).json() == model
    missing = await there.http.get("/v1/models/org/other")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "model_not_found"


async def test_a_completion_is_what_the_swarm_says(there: House):
    prompt = there.codec.encode(PROMPT)
    body = await there.said(COMPLETIONS, model=MODEL.name, prompt=PROMPT, max_tokens=9, **GREEDY)
    expected = there.codec.decode(undisturbed(prompt, 9))
    assert body["choices"] == [{"index": 0, "text": expected, "finish_reason": "length"}]
    assert body["object"] == "text_completion" and body["model"] == MODEL.name and body["id"].startswith("cmpl-")
    usage = {"prompt_tokens": len(prompt), "completion_tokens": 9, "total_tokens": len(prompt) + 9}
    assert body["usage"] == {**usage, "prompt_tokens_details": {"cached_tokens": 0}}
    await there.swarm.empty()


async def test_a_prompt_may_be_token_ids_and_several(there: House):
    one, two = list(there.codec.encode(PROMPT)), list(there.codec.encode("other"))
    expected = [there.codec.decode(undisturbed(ids, 5)) for ids in (one, two)]
    for prompt in ([PROMPT, "other"], [one, two]):
        body = await there.said(COMPLETIONS, prompt=prompt, max_tokens=5, **GREEDY)
        assert [(c["index"], c["text"]) for c in body["choices"]] == list(enumerate(expected))
        assert body["usage"]["prompt_tokens"] == len(one) + len(two)
    body = await there.said(COMPLETIONS, prompt=one, max_tokens=5, **GREEDY)
    assert body["choices"][0]["text"] == expected[0]


async def test_echo_begins_with_the_prompt(there: House):
    plain = await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=3, **GREEDY)
    said = plain["choices"][0]["text"]
    for prompt in (PROMPT, list(there.codec.encode(PROMPT))):
        echoed = await there.said(COMPLETIONS, prompt=prompt, max_tokens=3, echo=True, **GREEDY)
        assert echoed["choices"][0]["text"] == PROMPT + said
    streamed = await there.post(COMPLETIONS, prompt=PROMPT, max_tokens=3, echo=True, stream=True, **GREEDY)
    assert texts(events(streamed.text)) == {0: PROMPT + said}


async def test_several_answers_differ_and_repeat_with_their_seed_streamed_or_not(there: House):
    wish: dict[str, Any] = {"prompt": [PROMPT, "x"], "n": 3, "seed": 5, "max_tokens": 6, "ignore_eos": True}
    body = await there.said(COMPLETIONS, **wish)
    found = {c["index"]: c["text"] for c in body["choices"]}
    assert list(found) == [0, 1, 2, 3, 4, 5] and len(set(found.values())) == 6
    assert body["usage"]["completion_tokens"] == 36
    streamed = events((await there.post(COMPLETIONS, stream=True, **wish)).text)
    assert texts(streamed) == found
    await there.swarm.empty()


async def test_best_of_gives_the_likeliest(there: House):
    wish: dict[str, Any] = {"prompt": PROMPT, "seed": 3, "max_tokens": 4, "ignore_eos": True, "logprobs": 0}
    every = (await there.said(COMPLETIONS, n=4, **wish))["choices"]
    best = (await there.said(COMPLETIONS, n=1, best_of=4, **wish))["choices"]
    assert len(best) == 1
    mean = {c["text"]: sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["token_logprobs"]) for c in every}
    assert best[0]["text"] == max(mean, key=lambda text: mean[text])


async def test_temperature_is_one_unless_it_is_given(there: House):
    wish: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 8, "ignore_eos": True}
    drawn = {(await there.said(COMPLETIONS, **wish))["choices"][0]["text"] for _ in range(4)}
    assert len(drawn) == 4, "two requests without a seed never share one"
    greedy = {(await there.said(COMPLETIONS, **wish, temperature=0))["choices"][0]["text"] for _ in range(3)}
    assert len(greedy) == 1


async def test_a_stream_is_the_same_text(there: House):
    whole = await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=20, **GREEDY)
    answer = await there.post(
        COMPLETIONS, prompt=PROMPT, max_tokens=20, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = events(answer.text)
    assert texts(chunks) == {0: whole["choices"][0]["text"]}
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == whole["usage"]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * 20 + ["length"]
    assert not any("usage" in chunk for chunk in chunks[:-1])


async def test_usage_may_come_with_every_chunk(there: House):
    wish = {"include_usage": True, "continuous_usage_stats": True}
    answer = await there.post(COMPLETIONS, prompt=PROMPT, max_tokens=3, stream=True, stream_options=wish, **GREEDY)
    counts = [chunk["usage"]["completion_tokens"] for chunk in events(answer.text)]
    assert counts == [1, 2, 3, 3, 3]


async def test_a_chat_goes_through_the_models_template(there: House):
    body = await there.said(CHATS, messages=MESSAGES, max_tokens=7, **GREEDY)
    prompt = there.codec.encode("<user>hi\n<assistant>", special=False)
    expected = there.codec.decode(undisturbed(prompt, 7))
    message = {"role": "assistant", "content": expected}
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": "length"}]
    streamed = events((await there.post(CHATS, messages=MESSAGES, max_tokens=7, stream=True, **GREEDY)).text)
    assert streamed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert streamed[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "length"}
    assert texts(streamed) == {0: expected}


async def test_a_chat_without_a_number_ends_where_the_gateway_says(tmp_path: Path):
    async with house(tmp_path, config=GatewayConfig(default_tokens=11)) as there:
        assert (await there.said(CHATS, messages=MESSAGES, **GREEDY))["usage"]["completion_tokens"] == 11
        assert (await there.said(COMPLETIONS, prompt="x", **GREEDY))["usage"]["completion_tokens"] == 16


async def test_logprobs_come_with_their_tokens(there: House):
    body = await there.said(CHATS, messages=MESSAGES, max_tokens=3, logprobs=True, top_logprobs=2, **GREEDY)
    content = body["choices"][0]["logprobs"]["content"]
    assert len(content) == 3 and all(len(each["top_logprobs"]) == 2 for each in content)
    body = await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=3, logprobs=2, **GREEDY)
    found = body["choices"][0]["logprobs"]
    assert {len(found[name]) for name in found} == {3}
    plain = await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=3, **GREEDY)
    assert "logprobs" not in plain["choices"][0]


async def test_stops_end_an_answer_and_are_not_shown(there: House):
    whole = (await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=12, **GREEDY))["choices"][0]["text"]
    at = whole[3:5]
    body = await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=12, stop=at, **GREEDY)
    assert body["choices"][0] == {"index": 0, "text": whole[: whole.index(at)], "finish_reason": "stop"}
    second = undisturbed(there.codec.encode(PROMPT), 2)[1]
    body = await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=12, stop_token_ids=[second], **GREEDY)
    assert body["usage"]["completion_tokens"] == 2 and body["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (COMPLETIONS, {"prompt": "x", "model": "gpt-4"}, 404, "model"),
        (COMPLETIONS, {}, 400, "prompt"),
        (COMPLETIONS, {"prompt": 5}, 400, "prompt"),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 0}, 400, "max_tokens"),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 1000}, 400, "max_tokens"),
        (COMPLETIONS, {"prompt": "x", "temperature": "hot"}, 400, "temperature"),
        (COMPLETIONS, {"prompt": "x", "n": 17}, 400, "n"),
        (COMPLETIONS, {"prompt": ["x"] * 9, "n": 2}, 400, "n"),
        (COMPLETIONS, {"prompt": [1000]}, 400, None),
        (COMPLETIONS, {"prompt": "x", "logit_bias": {"1": 200}}, 400, "logit_bias"),
        (COMPLETIONS, {"prompt": "x", "logit_bias": {"x": 2}}, 400, "logit_bias"),
        (COMPLETIONS, {"prompt": "x", "logit_bias": {"1000": 2}}, 400, None),
        (COMPLETIONS, {"prompt": "x", "min_tokens": 17}, 400, "min_tokens"),
        (CHATS, {"messages": []}, 400, "messages"),
        (CHATS, {"messages": [{"content": "x"}]}, 400, "messages.0.role"),
        (CHATS, {"messages": MESSAGES, "response_format": {"type": "json_schema"}}, 400, "response_format"),
        (CHATS, {"messages": MESSAGES, "stream": True, "tools": [{}]}, 400, "tools.0.type"),
        ("/tokenize", {}, 400, "prompt"),
        ("/detokenize", {"tokens": [5000]}, 400, "tokens"),
        ("/v1/nothing", {}, 404, None),
        ("/v1/embeddings", {"input": "x"}, 404, None),
    ],
)
async def test_what_is_wrong_has_a_status_and_names_the_field(
    there: House, path: str, body: dict[str, Any], status: int, param: str | None
):
    answer = await there.post(path, **body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["param"] == param
    assert there.desk.gate.running == 0 and there.swarm.seats == 0


async def test_other_mistakes_have_the_same_shape(there: House):
    answer = await there.http.post(COMPLETIONS, content=b"{no", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    answer = await there.http.get(COMPLETIONS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_a_prompt_that_is_too_long_has_openais_code(there: House):
    answer = await there.post(COMPLETIONS, prompt="word " * 200)
    assert answer.json()["error"]["code"] == "context_length_exceeded"


async def test_a_gateway_may_take_less_than_the_model(tmp_path: Path):
    async with house(tmp_path, config=GatewayConfig(max_prompt_tokens=10)) as there:
        answer = await there.post(COMPLETIONS, prompt=[1] * 11)
        assert answer.json()["error"]["message"] == "the prompt has 11 tokens, this gateway takes 10"
        assert (await there.post(COMPLETIONS, prompt=[1] * 10)).status_code == 200


async def test_without_peers_there_is_503_and_when_to_come_again(there: House):
    await there.said(COMPLETIONS, prompt="x", max_tokens=2)
    await there.swarm.stop(1)
    for stream in (False, True):
        answer = await there.post(COMPLETIONS, prompt="x", max_tokens=2, stream=stream)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1, answer.text
        assert answer.json()["error"]["code"] == "no_route"
    assert there.desk.gate.running == 0


async def test_a_swarm_that_fails_in_mid_sentence_is_an_event_and_then_done(there: House):
    there.swarm.peers[1].runner.answers_left = 4
    answer = await there.post(COMPLETIONS, prompt="x", max_tokens=50, stream=True, **GREEDY)
    assert answer.status_code == 200
    chunks = events(answer.text)
    assert len(chunks) > 2 and set(chunks[-1]) == {"error"} and chunks[-1]["error"]["code"] is not None
    assert "127.0.0.1" not in answer.text, "nobody is told where a peer is"
    assert "shoal_gateway_answers_total" in (await there.http.get("/metrics")).text
    assert there.desk.gate.running == 0


async def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path):
    async with house(tmp_path, config=GatewayConfig(request_timeout_s=0.3)) as there:
        await there.said(COMPLETIONS, prompt="x", max_tokens=1)
        for peer in there.swarm.peers:
            peer.engine.step_s = 0.02
        answer = await there.post(COMPLETIONS, prompt="x", max_tokens=200, **GREEDY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        streamed = events((await there.post(COMPLETIONS, prompt="x", max_tokens=200, stream=True, **GREEDY)).text)
        assert streamed[-1]["error"]["code"] == "deadline_exceeded"
        await there.swarm.empty()


async def test_text_and_tokens_there_and_back(there: House):
    found = await there.said("/tokenize", prompt=PROMPT, return_token_strs=True)
    ids = list(there.codec.encode(PROMPT))
    assert (found["tokens"], found["count"], found["max_model_len"]) == (ids, len(ids), MAX_POSITIONS)
    assert "".join(found["token_strs"]) == PROMPT
    assert (await there.said("/detokenize", tokens=ids)) == {"prompt": PROMPT}
    chat = await there.said("/tokenize", messages=MESSAGES)
    assert chat["tokens"] == list(there.codec.encode("<user>hi\n<assistant>", special=False))


async def test_the_house_says_how_it_is(there: House):
    for path, status in (("/health", 200), ("/healthz", 200), ("/readyz", 200), ("/version", 200), ("/docs", 200)):
        assert (await there.http.get(path)).status_code == status
    await there.swarm.directory.withdraw(there.swarm.peers[0].info)
    await there.desk.models.refresh()
    assert (await there.http.get("/readyz")).status_code == 503
    assert (await there.http.get("/healthz")).status_code == 200


async def test_openapi_knows_every_route(there: House):
    paths = (await there.http.get("/openapi.json")).json()["paths"]
    assert {COMPLETIONS, CHATS, "/tokenize", "/detokenize", "/v1/models", "/metrics", "/readyz"} <= set(paths)


async def test_an_alias_leads_to_its_models_and_says_which(tmp_path: Path):
    aliases = read_aliases([f"chat={MODEL.name}:1,{MODEL.name}@{MODEL.fingerprint[:4]}:1"])
    async with house(tmp_path, config=GatewayConfig(aliases=aliases)) as there:
        used: dict[str, str] = {}
        for n in range(12):
            answer = await there.http.post(
                COMPLETIONS, json={"model": "chat", "prompt": "x", "max_tokens": 1}, headers={"x-request-id": f"id-{n}"}
            )
            used[f"id-{n}"] = answer.json()["model"]
            assert answer.json()["id"] == f"cmpl-id-{n}" and answer.headers["x-request-id"] == f"id-{n}"
        assert used == {each: aliases["chat"].choose(each) for each in used} and len(set(used.values())) == 2
        assert "chat" in {each["id"] for each in (await there.http.get("/v1/models")).json()["data"]}


async def test_what_was_done_is_counted(there: House):
    await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=5, **GREEDY)
    await there.said(COMPLETIONS, prompt=PROMPT, max_tokens=5, n=2)
    await there.post("/v1/who-knows-what")
    metrics = (await there.http.get("/metrics")).text
    for line in (
        'shoal_gateway_tokens_total{kind="completion",model="other"} 15.0',
        'shoal_gateway_answers_total{model="other",reason="length"} 3.0',
        'shoal_gateway_time_to_first_token_seconds_count{model="other"} 2.0',
        'shoal_gateway_inter_token_seconds_count{model="other"} 4.0',
        'shoal_gateway_request_seconds_count{model="other"} 2.0',
        "shoal_gateway_queue_seconds_count 2.0",
        "shoal_gateway_running 0.0",
        'shoal_gateway_http_responses_total{code="404",route="other"} 1.0',
    ):
        assert line in metrics, line
    assert "who-knows-what" not in metrics


async def test_of_several_answers_one_that_fails_is_an_error_of_the_swarm(there: House):
    await there.said(COMPLETIONS, prompt="x", max_tokens=2)
    there.swarm.peers[1].runner.answers_left = 6
    answer = await there.post(COMPLETIONS, prompt="x", max_tokens=50, n=3, **GREEDY)
    assert answer.status_code in (502, 503), answer.text
    assert answer.json()["error"]["code"] in ("no_route", "bad_numbers")
    assert there.desk.gate.running == 0


async def test_what_of_a_prompt_was_cached_is_told(there: House):
    wish: dict[str, Any] = {"prompt": PROMPT * 20, "max_tokens": 2, **GREEDY}
    first = await there.said(COMPLETIONS, **wish)
    await there.swarm.empty()
    again = await there.said(COMPLETIONS, **wish)
    cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0 and cached > 0
    assert f'tokens_total{{kind="cached",model="other"}} {float(cached)}' in (await there.http.get("/metrics")).text
    assert again["choices"] == first["choices"]
