"""Several answers, beams, prefixes, local Ends and overcommitment, with real processes: what they say is what one
Session on one peer says.
"""

from __future__ import annotations

import asyncio
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from client import AsyncStream, Client, ClientConfig, Result
from client.choices import Choices
from peer.local import LocalPeer, LocalSwarm

from .conftest import COMMON, PROMPT

SAMPLE = Path(__file__).resolve().parents[2] / "model" / "sample"
LONG = "".join(f"    value_{n} = self.get({n})\n" for n in range(200))
KV_TOKENS = 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def two() -> Iterator[LocalSwarm]:
    """The second peer tells its figures."""
    with LocalSwarm(*COMMON, "--kv-tokens", str(KV_TOKENS), "--overcommit", "4") as swarm:
        swarm.start(["0:12"])
        swarm.start(["12:24"], "--http", f"127.0.0.1:{free_port()}")
        yield swarm


def figure(peer: LocalPeer, name: str) -> float:
    """What a peer tells Prometheus."""
    address = peer.arguments[peer.arguments.index("--http") + 1]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


def said(result: Result) -> tuple[object, ...]:
    return result.token_ids, result.logprobs, result.text


@pytest.mark.parametrize("shape", ["ring", "star"])
def test_three_answers_are_those_of_three_calls_with_their_seeds(two: LocalSwarm, alone: Client, shape: str):
    options = {"max_new_tokens": 16, "ignore_eos": True, "temperature": 0.9, "logprobs": 1}
    with Client(swarm=two.join, config=ClientConfig(shape=shape)) as client:  # type: ignore[arg-type]
        result = client.generate(PROMPT, seed=7, n=3, **options)
    singles = [alone.generate(PROMPT, seed=seed, **options) for seed in Choices(3).seeds(7)]
    assert [said(each) for each in (result, *result.alternatives)] == [said(each) for each in singles]
    assert len({each.token_ids for each in singles}) == 3 and len(result.route) == 2


def test_a_prompt_that_was_there_before_is_found_and_changes_nothing(two: LocalSwarm, alone: Client):
    options = {"max_new_tokens": 12, "ignore_eos": True, "logprobs": 2}
    hits = 'shoal_peer_prefix_tokens_total{outcome="hit"}'
    with Client(swarm=two.join) as client, Client(swarm=two.join) as other:
        prompt = AutoTokenizer.from_pretrained(SAMPLE)(LONG).input_ids[:700]
        truth = alone.generate(prompt, **options)
        before = figure(two.peers[1], hits)
        first, again = client.generate(prompt, **options), client.generate(prompt, **options)
        assert said(first) == said(again) == said(truth)
        assert first.cached_tokens == 0
        assert again.cached_tokens == 699 // 32 * 32
        assert figure(two.peers[1], hits) - before == again.cached_tokens
        stranger = other.generate(prompt, **options)
        assert said(stranger) == said(truth) and stranger.cached_tokens == 0
        drafting = {**options, "max_new_tokens": 40}
        assert said(client.generate(prompt, **drafting)) == said(alone.generate(prompt, **drafting))


@pytest.mark.parametrize("shape", ["chain", "star"])
@pytest.mark.parametrize("draft_tokens", [0, 4])
def test_local_ends_change_nothing(two: LocalSwarm, alone: Client, shape: str, draft_tokens: int):
    config = ClientConfig(ends="local", checkpoint=str(SAMPLE), shape=shape, draft_tokens=draft_tokens)  # type: ignore[arg-type]
    with Client(swarm=two.join, config=config) as client:
        for options in ({"logprobs": 2}, {"temperature": 0.8, "seed": 3, "repetition_penalty": 1.2}):
            options = {**options, "max_new_tokens": 16, "ignore_eos": True}
            assert said(client.generate(PROMPT, **options)) == said(alone.generate(PROMPT, **options))
        for options in ({"n": 2, "temperature": 0.8, "seed": 3}, {"num_beams": 3, "n": 2}):
            ours, theirs = (each.generate(PROMPT, max_new_tokens=12, **options) for each in (client, alone))
            assert [said(r) for r in (ours, *ours.alternatives)] == [said(r) for r in (theirs, *theirs.alternatives)]
            assert len(ours.alternatives) == 1 and ours.shape == shape


def test_drafts_of_the_last_hop_change_nothing_and_are_counted(two: LocalSwarm, alone: Client):
    proposed, accepted = "shoal_peer_drafts_proposed_total", "shoal_peer_drafts_accepted_total"
    with Client(swarm=two.join, config=ClientConfig(draft_tokens=8)) as client:
        options = {"max_new_tokens": 60, "ignore_eos": True, "logprobs": 1}
        result = client.generate(LONG[:600], **options)
        assert said(result) == said(alone.generate(LONG[:600], **options))
        assert result.shape == "ring"
    assert figure(two.peers[1], proposed) >= figure(two.peers[1], accepted) > 0


def test_overcommitment_admits_more_than_fits_and_all_say_the_right_thing(two: LocalSwarm, alone: Client):
    """Each takes 9 Pages or so of 32, and all are there at once, before anybody is read to the end."""
    prompts = [f"# {n}\n{LONG[:500]}" for n in range(6)]
    options = {"max_new_tokens": 40, "ignore_eos": True, "logprobs": 1}

    async def scenario() -> list[Result]:
        async with Client(swarm=two.join, config=ClientConfig(admission_timeout_s=20.0)) as client:
            streams: list[AsyncStream] = [client.stream_async(prompt, **options) for prompt in prompts]
            await asyncio.gather(*(anext(stream) for stream in streams))
            return list(await asyncio.gather(*(stream.finish() for stream in streams)))

    results = asyncio.run(scenario())
    assert sum(result.prompt_tokens + 40 for result in results) > KV_TOKENS
    assert [said(result) for result in results] == [said(alone.generate(prompt, **options)) for prompt in prompts]


@pytest.mark.timeout(180)
def test_beams_through_two_peers_equal_transformers():
    with LocalSwarm(*COMMON, "--profile", "f32") as swarm:
        swarm.start(["0:10", "10:24"])
        with Client(swarm=swarm.join) as client:
            ours = client.generate(PROMPT, max_new_tokens=16, ignore_eos=True, num_beams=3, n=3)
            stopping = client.generate(PROMPT, max_new_tokens=16, num_beams=3, length_penalty=0.5)
    ids = AutoTokenizer.from_pretrained(SAMPLE)(PROMPT).input_ids
    model = AutoModelForCausalLM.from_pretrained(SAMPLE, dtype=torch.float32).eval()
    assert [list(each.token_ids) for each in (ours, *ours.alternatives)] == beams(model, ids, 3, stops=())
    assert list(stopping.token_ids) == beams(model, ids, 1, stops=(0,), length_penalty=0.5)[0]
    assert len(ours.route) == 2 and ours.shape == "chain"


@torch.inference_mode()
def beams(
    model: AutoModelForCausalLM, ids: list[int], count: int, *, stops: tuple[int, ...], length_penalty: float = 1.0
) -> list[list[int]]:
    config = GenerationConfig(
        do_sample=False, max_new_tokens=16, num_beams=3, num_return_sequences=count, length_penalty=length_penalty,
        eos_token_id=list(stops) or None, pad_token_id=1, use_cache=True,
    )  # fmt: skip
    model.generation_config = GenerationConfig(pad_token_id=1)
    prompt = torch.tensor([ids])
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    rows = out[:, len(ids) :].tolist()
    for stop in stops:
        rows = [row[: row.index(stop) + 1] if stop in row else row for row in rows]
    return rows
