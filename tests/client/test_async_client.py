"""A prompt goes in and text comes out: real Links to hash peers, without weights and without a DHT."""

from __future__ import annotations

import asyncio
import importlib.abc
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from client import AsyncClient, ClientConfig, Piece
from client.async_client import LONG_PROMPT, join_addresses
from client.text import Codec
from dht.memory import MemoryDirectory, MemoryStore
from swarm.clock import SystemClock, VirtualClock
from swarm.errors import NoRoute, SwarmError, SwarmUnreachable, UsageError
from swarm.peerinfo import ModelRef
from tests.client.loopback import ADDRESS, Loopback
from tests.client.words import directory
from tests.support.hash_engine import MODEL, undisturbed

SPANS = [(0, 3), (3, 6)]
PROMPT = "def fib_"


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Loopback]:
    async with Loopback(SPANS, tmp_path / "assets") as loopback:
        yield loopback


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec(directory(tmp_path_factory.mktemp("words")))


async def test_generate_gives_text_and_all_that_is_known_about_it(swarm: Loopback, codec: Codec):
    prompt = codec.encode(PROMPT)
    expected = undisturbed(prompt, 12)
    async with swarm.client() as client:
        result = await client.generate(PROMPT, max_new_tokens=12, ignore_eos=True)
        await swarm.empty()
    assert list(result.token_ids) == expected
    assert result.text == codec.decode(expected)
    assert (result.finish_reason, result.prompt_tokens, result.completion_tokens) == ("length", len(prompt), 12)
    assert result.route == [{"peer": f"{n:032x}", "blocks": [a, b]} for n, (a, b) in enumerate(SPANS, 1)]
    assert result.failovers == 0 and result.logprobs is None
    assert result.ttft_s > 0 and result.tokens_per_s > 0


async def test_token_ids_are_a_prompt_too(swarm: Loopback, codec: Codec):
    async with swarm.client() as client:
        by_text = await client.generate(PROMPT, max_new_tokens=3)
        by_ids = await client.generate(list(codec.encode(PROMPT)), max_new_tokens=3)
    assert by_text.token_ids == by_ids.token_ids


async def test_a_long_prompt_is_tokenised_beside_the_loop(swarm: Loopback, monkeypatch: pytest.MonkeyPatch):
    threads: list[threading.Thread] = []
    encode = Codec.encode

    def noted(self: Codec, text: str, *, special: bool = True) -> tuple[int, ...]:
        threads.append(threading.current_thread())
        return encode(self, text, special=special)

    monkeypatch.setattr(Codec, "encode", noted)
    async with swarm.client() as client:
        with pytest.raises(UsageError, match="more than the model's 256 positions"):
            await client.generate("x" * (LONG_PROMPT + 1))
    assert len(threads) == 1 and threads[0] is not threading.current_thread()


async def test_hivemind_is_imported_beside_the_loop(monkeypatch: pytest.MonkeyPatch):
    threads: list[threading.Thread] = []

    class Border(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "dht.node":
                threads.append(threading.current_thread())
                raise ImportError("not here")

    monkeypatch.setattr(sys, "meta_path", [Border(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "dht.node", raising=False)
    async with AsyncClient(ADDRESS) as client:
        with pytest.raises(ImportError, match="not here"):
            await client.generate("x")
    assert len(threads) == 1 and threads[0] is not threading.current_thread()


async def test_a_list_of_prompts_runs_at_once_and_is_answered_in_order(swarm: Loopback, codec: Codec):
    prompts = [f"prompt {n}" for n in range(12)]
    async with swarm.client() as client:
        results = await client.generate(prompts, max_new_tokens=5, ignore_eos=True)
        await swarm.empty()
    assert [list(r.token_ids) for r in results] == [undisturbed(codec.encode(p), 5) for p in prompts]
    assert [each.links for each in swarm.peers] == [1, 1], "one Link to a peer serves all Sessions"


async def test_no_more_sessions_run_at_once_than_allowed(swarm: Loopback):
    async with swarm.client(max_concurrent=2) as client:
        peaks: list[int] = []
        streams = [client.stream("x", max_new_tokens=3) for _ in range(5)]

        async def drink(stream) -> None:
            async for _ in stream:
                peaks.append(len(swarm.peers[0].seats))

        await asyncio.gather(*(drink(s) for s in streams))
    assert max(peaks) <= 2


async def test_a_stream_yields_pieces_only_and_has_the_result_at_its_end(swarm: Loopback):
    async with swarm.client() as client:
        stream = client.stream(PROMPT, max_new_tokens=10, ignore_eos=True)
        pieces = [piece async for piece in stream]
    result = stream.result
    assert all(isinstance(piece, Piece) for piece in pieces) and len(pieces) == 10
    assert "".join(p.text for p in pieces) == result.text
    assert tuple(t for p in pieces for t in p.token_ids) == result.token_ids
    assert all(p.route == result.route for p in pieces)


async def test_a_stop_string_ends_the_session_and_frees_its_seats_before_the_reader_goes_on(
    swarm: Loopback, codec: Codec
):
    text = codec.decode(undisturbed(codec.encode(PROMPT), 30))
    stop = text[8:10]
    async with swarm.client() as client:
        result = await client.generate(PROMPT, max_new_tokens=30, stop=stop)
        stream = client.stream(PROMPT, max_new_tokens=30, stop=stop)
        for _ in result.token_ids:
            await anext(stream)
        await swarm.empty()
        assert (await stream.finish()).token_ids == result.token_ids
    assert result.finish_reason == "stop"
    assert result.text == text[: text.index(stop)] and result.completion_tokens < 30


async def test_a_stop_token_ends_it_and_is_counted_but_not_shown(swarm: Loopback, codec: Codec):
    expected = undisturbed(codec.encode(PROMPT), 6)
    async with swarm.client() as client:
        result = await client.generate(PROMPT, max_new_tokens=6, stop_token_ids=[expected[3]])
    assert list(result.token_ids) == expected[:4] and result.finish_reason == "stop"
    assert result.text == codec.decode(expected[:3])


async def test_a_chat_is_the_template_and_then_a_generation(swarm: Loopback, codec: Codec):
    messages = [{"role": "user", "content": "hi"}]
    async with swarm.client() as client:
        result = await client.chat(messages, max_new_tokens=4, ignore_eos=True)
    assert list(result.token_ids) == undisturbed(codec.chat_prompt(messages), 4)


async def test_the_same_seed_draws_the_same_and_the_result_tells_it(swarm: Loopback):
    async with swarm.client() as client:
        first = await client.generate(PROMPT, max_new_tokens=5, temperature=1.0)
        again = await client.generate(PROMPT, max_new_tokens=5, temperature=1.0, seed=first.seed)
        other = await client.generate(PROMPT, max_new_tokens=5, temperature=1.0, seed=first.seed + 1)
    assert again.token_ids == first.token_ids != other.token_ids


async def test_a_killed_server_in_mid_sentence_changes_nothing(tmp_path: Path, codec: Codec):
    expected = undisturbed(codec.encode(PROMPT), 12)
    async with Loopback([(0, 3), (3, 6), (0, 6)], tmp_path) as swarm:
        prefer = (f"{1:032x}", f"{2:032x}")
        async with (
            swarm.client(prefer=prefer, patience_s=5.0) as client,
            client.stream(PROMPT, max_new_tokens=12, ignore_eos=True) as stream,
        ):
            for _ in range(5):
                await anext(stream)
            await swarm.stop(1)
            result = await stream.finish()
    assert list(result.token_ids) == expected
    assert result.failovers == 1 and len(result.route) == 2


async def test_when_blocks_are_lost_for_good_the_text_so_far_is_in_the_error(swarm: Loopback, codec: Codec):
    expected = undisturbed(codec.encode(PROMPT), 5)
    async with swarm.client() as client:
        stream = client.stream(PROMPT, max_new_tokens=12, ignore_eos=True)
        for _ in range(5):
            await anext(stream)
        await swarm.stop(1)
        with pytest.raises(NoRoute) as caught:
            await stream.finish()
    assert caught.value.text == codec.decode(expected)
    assert list(caught.value.token_ids) == expected
    assert [str(span) for span in caught.value.missing] == ["3:6"]
    partial = stream.partial
    assert partial is not None and (partial.finish_reason, partial.text) == ("error", codec.decode(expected))
    assert (list(partial.token_ids), partial.completion_tokens) == (expected, 5)
    assert partial.prompt_tokens == len(codec.encode(PROMPT)) and partial.ttft_s > 0 and partial.tokens_per_s > 0
    assert [leg["blocks"] for leg in partial.route] == [[0, 3], [3, 6]]
    with pytest.raises(UsageError, match="once all its pieces were read"):
        _ = stream.result


async def test_leaving_a_stream_early_frees_its_seats(swarm: Loopback):
    async with swarm.client() as client:
        stream = client.stream(PROMPT, max_new_tokens=100, ignore_eos=True)
        await anext(stream)
        assert swarm.seats == 2
        await stream.aclose()
        await swarm.empty()


async def test_one_bad_prompt_of_a_list_gives_up_the_others_and_frees_their_seats(swarm: Loopback):
    async with swarm.client() as client:
        with pytest.raises(UsageError, match="empty"):
            await client.generate(["fine", "", "fine too"], max_new_tokens=50)
        await swarm.empty()


@pytest.mark.parametrize(
    ("prompt", "options", "complaint"),
    [
        ("", {}, "prompt is empty"),
        ([], {}, "prompt is empty"),
        (None, {}, "a prompt is text or a list of token ids, not NoneType"),
        ([5, 1000], {}, r"token id 1000, the model has ids 0\.\.999"),
        ("x" * 1000, {}, "more than the model's 256 positions"),
        ("x", {"max_new_tokens": 300}, "1 tokens and 300 new ones is more than the model's 256 positions"),
        ("x", {"temperature": -1.0}, "temperature"),
    ],
)
async def test_bad_input_is_refused_in_one_line(swarm: Loopback, prompt: str, options: dict, complaint: str):
    async with swarm.client() as client:
        with pytest.raises(UsageError, match=complaint) as caught:
            await client.generate(prompt, **options)
    assert "\n" not in str(caught.value)
    assert swarm.seats == 0


async def test_without_a_number_the_answer_is_as_long_as_there_is_room(swarm: Loopback):
    async with swarm.client() as client:
        result = await client.generate([1] * 250, ignore_eos=True)
    assert result.completion_tokens == 6


async def test_a_swarm_without_any_model_is_told_apart(tmp_path: Path):
    empty = MemoryDirectory(MemoryStore(SystemClock()))
    async with Loopback([], tmp_path) as swarm, AsyncClient(directory=empty, config=swarm.config) as client:
        with pytest.raises(SwarmError, match="nobody in this swarm serves a model"):
            await client.generate("x")


async def test_a_look_that_fails_once_is_tried_again(tmp_path: Path):
    class Hiccup(MemoryDirectory):
        left = 1

        async def models(self) -> tuple[ModelRef, ...]:
            if self.left:
                self.left -= 1
                raise SwarmUnreachable("nobody answers")
            return await super().models()

    async with Loopback([(0, 6)], tmp_path) as swarm:
        directory = Hiccup(swarm.store)
        config = replace(swarm.config, patience_s=5.0)
        async with AsyncClient(directory=directory, config=config) as client:
            assert (await client.generate("x", max_new_tokens=2)).completion_tokens == 2


async def test_a_failed_connection_is_tried_anew_by_the_next_call(tmp_path: Path):
    async with Loopback([(0, 6)], tmp_path) as swarm:
        late = MemoryDirectory(MemoryStore(SystemClock()))
        async with AsyncClient(directory=late, config=swarm.config) as client:
            with pytest.raises(SwarmError):
                await client.generate("x")
            await late.publish(swarm.peers[0].info)
            assert (await client.generate("x", max_new_tokens=2)).completion_tokens == 2


async def test_a_model_can_be_named_by_name_or_fingerprint_and_a_wrong_name_lists_the_right_ones(swarm: Loopback):
    for name in (MODEL.name, MODEL.fingerprint):
        async with AsyncClient(model=name, directory=swarm.directory, config=swarm.config) as client:
            assert (await client.served()).model == MODEL
    async with AsyncClient(model="other", directory=swarm.directory, config=swarm.config) as client:
        with pytest.raises(UsageError, match="does not serve 'other'; it serves hashes"):
            await client.served()


async def test_a_closed_client_says_so(swarm: Loopback):
    client = swarm.client()
    await client.generate("x", max_new_tokens=1)
    await client.close()
    await client.close()
    with pytest.raises(UsageError, match="closed"):
        await client.generate("x")


def test_swarm_addresses_come_from_the_caller_or_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert join_addresses(ADDRESS) == join_addresses([ADDRESS, ADDRESS]) == (ADDRESS,)
    monkeypatch.setenv("SHOAL_SWARM", f"{ADDRESS},{ADDRESS} ")
    assert join_addresses(None) == (ADDRESS,)
    monkeypatch.delenv("SHOAL_SWARM")
    with pytest.raises(UsageError, match="no swarm is named"):
        join_addresses(None)
    with pytest.raises(UsageError, match="cannot join 'localhost:4000'"):
        join_addresses("localhost:4000")


async def test_connecting_as_a_whole_has_a_deadline(tmp_path: Path):
    class Silent(MemoryDirectory):
        asked = asyncio.Event()

        async def models(self) -> tuple[ModelRef, ...]:
            self.asked.set()
            await asyncio.Event().wait()
            return ()

    clock = VirtualClock()
    config = ClientConfig(connect_timeout_s=20.0, assets_dir=tmp_path)
    async with AsyncClient(directory=Silent(MemoryStore(clock)), config=config, clock=clock) as client:
        call = asyncio.create_task(client.generate("x"))
        await Silent.asked.wait()
        clock.advance(20.0)
        with pytest.raises(SwarmError, match="connecting took longer than 20 s"):
            await call
