"""The public face from threads and from other event loops: the same answers, and nothing left behind."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import client as package
from client import Client
from client.background import Background
from client.text import Codec
from swarm.errors import UsageError
from tests.client.loopback import ADDRESS, ClientOf, InThread, Loopback
from tests.client.words import directory
from tests.support.hash_engine import undisturbed

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "def fib_"
GREEDY = {"max_new_tokens": 6, "ignore_eos": True}


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[InThread]:
    running = InThread(Loopback([(0, 3), (3, 6)], tmp_path / "assets"))
    with running as running.client_type:  # type: ignore[attr-defined]
        yield running


@pytest.fixture
def client(swarm: InThread) -> Iterator[ClientOf]:
    with swarm.client_type(ADDRESS) as made:  # type: ignore[attr-defined]
        yield made


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    codec = Codec(directory(tmp_path_factory.mktemp("words")))
    return undisturbed(codec.encode(PROMPT), 6)


def test_plain_calls(client: Client, swarm: InThread, expected: list[int]):
    assert list(client.generate(PROMPT, **GREEDY).token_ids) == expected
    assert [list(r.token_ids) for r in client.generate([PROMPT, PROMPT], **GREEDY)] == [expected, expected]
    stream = client.stream(PROMPT, **GREEDY)
    assert [t for p in stream for t in p.token_ids] == expected == list(stream.result.token_ids)
    assert client.chat([{"role": "user", "content": "hi"}], **GREEDY).completion_tokens == 6
    assert len(list(client.stream_chat([{"role": "user", "content": "hi"}], **GREEDY))) == 6
    swarm.empty()


def test_async_twins_on_the_callers_own_loop(client: Client, swarm: InThread, expected: list[int]):
    async def caller() -> None:
        results = await asyncio.gather(*(client.generate_async(PROMPT, **GREEDY) for _ in range(3)))
        assert [list(r.token_ids) for r in results] == [expected] * 3
        stream = client.stream_async(PROMPT, **GREEDY)
        assert [t async for p in stream for t in p.token_ids] == expected == list(stream.result.token_ids)
        hello = [{"role": "user", "content": "hi"}]
        answer = await client.chat_async(hello, **GREEDY)
        assert (await client.stream_chat_async(hello, **GREEDY).finish()).token_ids == answer.token_ids

    asyncio.run(caller())
    asyncio.run(caller())  # another loop, the same client
    swarm.empty()


def test_many_threads_can_share_a_client(client: Client, swarm: InThread, expected: list[int]):
    answers: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(list(client.generate(PROMPT, **GREEDY).token_ids)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 8
    swarm.empty()


def test_a_closed_stream_gives_the_seats_back_and_has_no_result(client: Client, swarm: InThread):
    with client.stream(PROMPT, max_new_tokens=200, ignore_eos=True) as stream:
        next(stream)
    swarm.empty()
    assert list(stream) == [] and stream.partial is None
    with pytest.raises(UsageError, match="once all its pieces were read"):
        _ = stream.result


def test_breaking_out_of_a_stream_gives_the_seats_back(client: Client, swarm: InThread):
    for _ in client.stream(PROMPT, max_new_tokens=200, ignore_eos=True):
        break
    swarm.empty()


async def test_a_cancelled_call_gives_the_seats_back(client: Client, swarm: InThread):
    stream = client.stream_async(PROMPT, max_new_tokens=200, ignore_eos=True)
    await anext(stream)
    task = asyncio.create_task(client.generate_async(PROMPT, max_new_tokens=200, ignore_eos=True))
    await anext(stream)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await stream.aclose()
    await asyncio.to_thread(swarm.empty)


def test_closing_is_idempotent_and_final(client: Client):
    client.generate(PROMPT, **GREEDY)
    client.close()
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.generate(PROMPT)


async def test_async_with_closes(swarm: InThread):
    async with swarm.client_type(ADDRESS) as client:  # type: ignore[attr-defined]
        await client.generate_async(PROMPT, max_new_tokens=1)
    with pytest.raises(UsageError, match="closed"):
        await client.generate_async(PROMPT)


async def test_closing_never_blocks_the_callers_loop(client: ClientOf, monkeypatch: pytest.MonkeyPatch):
    await client.generate_async(PROMPT, max_new_tokens=1)
    threads: list[threading.Thread] = []
    close = Background.close
    monkeypatch.setattr(Background, "close", lambda self: (threads.append(threading.current_thread()), close(self)))
    await client.close_async()
    assert len(threads) == 1 and threads[0] is not threading.main_thread()


def test_a_client_that_was_never_used_starts_no_thread():
    before = threading.active_count()
    with Client(ADDRESS) as client:
        with pytest.raises(UsageError, match="temperature"):
            client.generate(PROMPT, temperature=-1.0)
        assert threading.active_count() == before


def test_bad_options_are_refused_at_the_call_and_not_at_the_first_piece(client: Client):
    with pytest.raises(UsageError, match="top_p"):
        client.stream(PROMPT, top_p=2.0)
    with pytest.raises(UsageError, match="top_p"):
        client.stream_async(PROMPT, top_p=2.0)
    with pytest.raises(UsageError, match="at least one message"):
        client.stream_chat([])


def test_the_functions_of_the_package_are_callable_also_where_the_modules_of_that_name_were_imported(
    monkeypatch: pytest.MonkeyPatch,
):
    importlib.import_module("client.generate")
    importlib.import_module("client.chat")
    monkeypatch.delenv("SHOAL_SWARM", raising=False)
    for call in (package.generate, package.chat, package.stream):
        with pytest.raises(UsageError, match="no swarm is named"):
            call("x")  # type: ignore[operator]


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        5,
        b"abc",
        [None],
        [5.0],
        [b"abc"],
        True,
        [True, 2],
        [[1, True]],
        [-1],
        [1 << 32],
        [10**5000],
        "\ud800",
        ["\ud800"],
    ],
)
def test_what_is_no_prompt_is_told_before_a_swarm_is_troubled(client: Client, prompt: object):
    with pytest.raises(UsageError, match=r"prompt|token id"):
        client.generate(prompt)  # type: ignore[call-overload]


@pytest.mark.parametrize("messages", ["hi", [5], [{"role": "user", "content": "\ud800"}]])
def test_what_is_no_conversation_is_told_before_a_swarm_is_troubled(client: Client, messages: object):
    with pytest.raises(UsageError, match="chat"):
        client.chat(messages)  # type: ignore[arg-type]


@pytest.mark.parametrize("swarm", [5, [5], b"abc", {ADDRESS: 1}])
def test_what_is_no_swarm_is_told(swarm: object):
    with pytest.raises(UsageError, match="a swarm is an address"):
        Client(swarm)  # type: ignore[arg-type]


def test_the_librarys_messages_are_for_those_who_configured_logging():
    code = "import logging, client\nlogging.getLogger('shoal.watcher').warning('cannot look')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    told = code.replace("client\n", "client\nlogging.basicConfig()\n")
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "cannot look" in done.stderr
