"""The Open Inference Protocol over a real swarm in this process, as KServe's and Triton's clients speak it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.keys import read_keys
from gateway.limits import Limits
from tests.gateway.house import House, house
from tests.support.hash_engine import MODEL, undisturbed

PROMPT = "def fib_"
GREEDY = {"temperature": 0, "ignore_eos": True}
MODELS = f"/v2/models/{MODEL.name}"


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


def events(text: str) -> list[Any]:
    lines = text.split("\n\n")
    assert lines[-1] == "" and all(line.startswith("data: {") for line in lines[:-1]), "no [DONE] in this protocol"
    return [json.loads(line[6:]) for line in lines[:-1]]


def expected(there: House, prompt: str, new: int) -> str:
    return there.codec.decode(undisturbed(there.codec.encode(prompt), new))


async def test_the_server_says_who_it_is(there: House):
    assert (await there.http.get("/v2")).json() == {"name": "shoal", "version": "test", "extensions": ["generate"]}
    assert (await there.http.get("/v2/health/live")).json() == {"live": True}
    assert (await there.http.get("/v2/health/ready")).json()["ready"] is True


async def test_a_model_is_described_with_and_without_its_version(there: House):
    found = (await there.http.get(MODELS)).json()
    assert (found["name"], found["versions"], found["platform"]) == (MODEL.name, [MODEL.fingerprint], "shoal")
    assert found["inputs"] == [{"name": "text_input", "datatype": "BYTES", "shape": [-1]}]
    assert (await there.http.get(f"{MODELS}/versions/{MODEL.fingerprint}")).json() == found
    assert (await there.http.get(f"{MODELS}/ready")).json() == {"name": MODEL.name, "ready": True}
    assert (await there.http.get(f"{MODELS}/versions/{MODEL.fingerprint}/ready")).json()["ready"] is True


async def test_generate(there: House):
    for parameters in ({"max_tokens": 9}, {"max_new_tokens": 9, "stream": True}):
        said = await there.said(f"{MODELS}/generate", text_input=PROMPT, parameters={**parameters, **GREEDY})
        assert said == {
            "model_name": MODEL.name, "model_version": MODEL.fingerprint, "text_output": expected(there, PROMPT, 9),
            "finish_reason": "length",
        }  # fmt: skip
    beside = await there.said(f"{MODELS}/generate", text_input=PROMPT, max_tokens=9, stop_words="", **GREEDY)
    assert beside == said, "other fields are parameters too"
    versioned = f"{MODELS}/versions/{MODEL.fingerprint[:8]}/generate"
    assert await there.said(versioned, text_input=PROMPT, max_tokens=9, **GREEDY) == said
    without = await there.said(f"{MODELS}/generate", text_input=PROMPT, **GREEDY)
    assert without["text_output"] == expected(there, PROMPT, 20)
    await there.swarm.empty()


async def test_generate_stream(there: House):
    answer = await there.post(f"{MODELS}/generate_stream", text_input=PROMPT, parameters={"max_tokens": 9, **GREEDY})
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = events(answer.text)
    assert "".join(chunk["text_output"] for chunk in chunks) == expected(there, PROMPT, 9)
    assert [chunk["done"] for chunk in chunks] == [False] * 9 + [True]
    assert chunks[-1]["finish_reason"] == "length" and "finish_reason" not in chunks[0]


async def test_infer_takes_texts_as_a_tensor(there: House):
    tensor: dict[str, Any] = {
        "name": "text_input",
        "datatype": "BYTES",
        "shape": [2, 1],
        "data": [[PROMPT], ["other"]],
    }
    said = await there.said(f"{MODELS}/infer", id="7", inputs=[tensor], parameters={"max_tokens": 5, **GREEDY})
    texts = [expected(there, PROMPT, 5), expected(there, "other", 5)]
    assert said["outputs"] == [{"name": "text_output", "datatype": "BYTES", "shape": [2], "data": texts}]
    assert (said["id"], said["model_name"], said["model_version"]) == ("7", MODEL.name, MODEL.fingerprint)
    flat = {**tensor, "data": [PROMPT, "other"], "shape": [2]}
    versioned = f"{MODELS}/versions/{MODEL.fingerprint}/infer"
    again = await there.said(versioned, inputs=[flat], parameters={"max_tokens": 5, **GREEDY})
    assert again["outputs"] == said["outputs"] and "id" not in again


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["x"], **changes}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (f"{MODELS}/generate", {}, 400, "text_input"),
        (f"{MODELS}/generate", {"text_input": ""}, 400, "empty"),
        (f"{MODELS}/generate", {"text_input": "x", "parameters": {"max_tokens": "many"}}, 400, "max_tokens"),
        (f"{MODELS}/generate", {"text_input": "x", "temperature": -1}, 400, "temperature"),
        (f"{MODELS}/generate", {"text_input": "x", "parameters": {"n": 2}}, 400, "n does not go"),
        (f"{MODELS}/generate_stream", {"text_input": "x", "parameters": {"suffix": "y"}}, 400, "suffix"),
        ("/v2/models/other/generate", {"text_input": "x"}, 404, "other"),
        (f"{MODELS}/versions/beef/generate", {"text_input": "x"}, 404, "beef"),
        (f"{MODELS}/infer", tensor(datatype="FP32"), 400, "FP32"),
        (f"{MODELS}/infer", tensor(data=[1]), 400, "shape"),
        (f"{MODELS}/infer", tensor(shape=[2]), 400, "shape"),
        (f"{MODELS}/infer", tensor(data=None), 400, "binary"),
        (f"{MODELS}/infer", tensor(name="input0"), 400, "input0"),
        (f"{MODELS}/infer", {**tensor(), "outputs": [{"name": "logits"}]}, 400, "logits"),
        ("/v2/repository/index", {}, 404, "/v2/repository/index"),
    ],
)
async def test_errors_are_a_text(there: House, path: str, body: dict[str, Any], status: int, says: str):
    answer = await there.post(path, **body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and says in answer.json()["error"]
    assert there.desk.gate.running == 0 and there.swarm.seats == 0


async def test_binary_tensors_are_refused_in_words(there: House):
    header = {"inference-header-content-length": "100"}
    answer = await there.http.post(f"{MODELS}/infer", json=tensor(), headers=header)
    assert answer.status_code == 400 and "binary" in answer.json()["error"]


async def test_trouble_in_mid_stream_is_an_event_of_this_protocol(there: House):
    there.swarm.peers[1].runner.answers_left = 4
    answer = await there.post(f"{MODELS}/generate_stream", text_input="x", max_tokens=50, **GREEDY)
    assert answer.status_code == 200
    last = events(answer.text)[-1]
    assert set(last) == {"error"} and isinstance(last["error"], str)


async def test_readiness_follows_the_swarm(there: House):
    await there.swarm.directory.withdraw(there.swarm.peers[0].info)
    await there.desk.models.refresh()
    for path in ("/v2/health/ready", f"{MODELS}/ready"):
        answer = await there.http.get(path)
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert (await there.http.get("/v2/health/live")).status_code == 200


async def test_keys_are_asked_for_but_not_of_probes(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text("ann sk-ann-secret")
    async with house(tmp_path, keyring=read_keys(path, {}, Limits())) as there:
        assert (await there.http.get("/v2/health/ready")).status_code == 200
        refused = await there.post(f"{MODELS}/generate", text_input="x")
        assert refused.status_code == 401 and isinstance(refused.json()["error"], str)
