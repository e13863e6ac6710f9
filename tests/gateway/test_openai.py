"""The ``openai`` package, which nobody here wrote, against a real server: sync, async, streams, errors, retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.keys import read_keys
from gateway.limits import Limits
from tests.client.loopback import MODEL
from tests.gateway.house import House, served_house, until
from tests.support.hash_engine import undisturbed

KEY = "sk-ann-secret"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
PROMPT = "def fib_"
MORE: dict[str, Any] = {"extra_body": {"ignore_eos": True, "top_k": 0}}


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[House]:
    path = tmp_path / "keys"
    path.write_text(f"ann {KEY}\nbob sk-bob-secret rpm=1")
    async with served_house(tmp_path, keyring=read_keys(path, {}, Limits())) as made:
        yield made


@pytest.fixture
async def client(there: House) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{there.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def expected(there: House, new: int) -> str:
    return there.codec.decode(undisturbed(there.codec.encode("<user>hi\n<assistant>", special=False), new))


async def test_chat(there: House, client: openai.AsyncOpenAI):
    answer = await client.chat.completions.create(
        model=MODEL.name, messages=MESSAGES, max_tokens=9, temperature=0, logprobs=True, top_logprobs=2, **MORE
    )
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", expected(there, 9))
    assert choice.finish_reason == "length" and choice.logprobs is not None and choice.logprobs.content is not None
    assert len(choice.logprobs.content) == 9
    assert answer.usage is not None and answer.usage.total_tokens == answer.usage.prompt_tokens + 9


async def test_streamed_chat(there: House, client: openai.AsyncOpenAI):
    stream = await client.chat.completions.create(
        model=MODEL.name, messages=MESSAGES, max_completion_tokens=9, temperature=0, stream=True,
        stream_options={"include_usage": True}, **MORE,
    )  # fmt: skip
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected(there, 9) and chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 9
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_the_helper_for_streams_puts_the_same_answer_together(there: House, client: openai.AsyncOpenAI):
    ids = undisturbed(there.codec.encode("<user>hi\n<assistant>", special=False), 9)
    wish = {"ignore_eos": True, "stop_token_ids": [ids[8]]}  # the helper raises where an answer was cut by its length
    async with client.chat.completions.stream(
        model=MODEL.name, messages=MESSAGES, max_tokens=20, temperature=0, n=2, extra_body=wish
    ) as stream:
        whole = await stream.get_final_completion()
    assert [choice.message.content for choice in whole.choices] == [there.codec.decode(ids[:8])] * 2


async def test_completions(there: House, client: openai.AsyncOpenAI):
    ids = list(there.codec.encode(PROMPT))
    for prompt in (PROMPT, [PROMPT], ids, [ids]):
        answer = await client.completions.create(
            model=MODEL.name, prompt=prompt, max_tokens=6, temperature=0, logprobs=1, **MORE
        )
        assert answer.choices[0].text == there.codec.decode(undisturbed(ids, 6))
        assert answer.choices[0].logprobs is not None and len(answer.choices[0].logprobs.tokens or []) == 6
    stream = await client.completions.create(model=MODEL.name, prompt=PROMPT, max_tokens=6, stream=True, n=2, **MORE)
    chunks = [chunk async for chunk in stream]
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1}


async def test_the_sync_client(there: House):
    def ask() -> tuple[str, str, list[str]]:
        with openai.OpenAI(base_url=f"{there.url}/v1", api_key=KEY, max_retries=0) as client:
            wish: dict[str, Any] = {
                "model": MODEL.name,
                "messages": MESSAGES,
                "max_tokens": 9,
                "temperature": 0,
                **MORE,
            }
            whole = client.chat.completions.create(**wish).choices[0].message.content
            parts = [
                chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**wish, stream=True)
            ]
            return whole or "", "".join(parts), [model.id for model in client.models.list()]

    whole, streamed, models = await asyncio.to_thread(ask)
    assert whole == streamed == expected(there, 9) and models == [MODEL.name]


async def test_models(client: openai.AsyncOpenAI):
    assert (await client.models.retrieve(MODEL.name)).owned_by == "shoal"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4")


async def test_errors_are_the_packages_own(there: House, client: openai.AsyncOpenAI):
    async def ask(client: openai.AsyncOpenAI = client, **changes: Any) -> Any:
        wish: dict[str, Any] = {"model": MODEL.name, "messages": MESSAGES, "max_tokens": 1}
        return await client.chat.completions.create(**{**wish, **changes})

    with pytest.raises(openai.BadRequestError, match="temperature") as bad:
        await ask(temperature=-1)
    assert (bad.value.param, bad.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="tools") as bad:
        await ask(tools=[{"type": "function", "function": {"name": "f"}}])  # which this template does not know
    assert bad.value.code == "unsupported_parameter" and bad.value.param == "tools"
    with pytest.raises(openai.NotFoundError) as missing:
        await ask(model="gpt-4", stream=True)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        await ask(client.with_options(api_key="sk-wrong-secret"))
    bob = client.with_options(api_key="sk-bob-secret")
    await ask(bob)
    with pytest.raises(openai.RateLimitError) as often:
        await ask(bob)
    assert 1 <= int(often.value.response.headers["retry-after"]) <= 60


async def test_trouble_in_mid_stream_is_raised(there: House, client: openai.AsyncOpenAI):
    there.swarm.peers[1].runner.answers_left = 3
    stream = await client.chat.completions.create(
        model=MODEL.name, messages=MESSAGES, max_tokens=50, temperature=0, stream=True, **MORE
    )
    for _ in range(3):
        await anext(aiter(stream))
    with pytest.raises(openai.APIError) as trouble:
        await _all(stream)
    assert trouble.value.code is not None


async def test_what_is_to_be_tried_again_is(there: House, client: openai.AsyncOpenAI):
    """The door is shut, Retry-After is obeyed, the door is open."""
    there.desk.draining = True
    asking = asyncio.create_task(
        client.with_options(max_retries=3).completions.create(model=MODEL.name, prompt="x", max_tokens=1)
    )
    async with httpx.AsyncClient(base_url=there.url) as http:

        async def refused() -> bool:
            return 'code="503"' in (await http.get("/metrics")).text

        async with asyncio.timeout(10):
            while not await refused():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    there.desk.draining = False
    assert (await asking).choices[0].finish_reason == "length"


async def test_leaving_a_stream_cancels_its_session(there: House, client: openai.AsyncOpenAI):
    for peer in there.swarm.peers:
        peer.engine.step_s = 0.01
    stream = await client.chat.completions.create(
        model=MODEL.name, messages=MESSAGES, max_tokens=200, stream=True, **MORE
    )
    await anext(aiter(stream))
    await stream.close()
    async with asyncio.timeout(2):
        await there.swarm.empty()
    await until(lambda: there.desk.gate.running == 0)


async def _all(stream: Any) -> list[Any]:
    return [each async for each in stream]
