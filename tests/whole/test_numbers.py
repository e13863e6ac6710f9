"""Where the Blocks are cut changes nothing: f32 equals transformers, and c8 equals itself, through any Route."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from client import Client, ClientConfig
from peer.local import LocalSwarm
from proto.messages import WireDType

from .conftest import COMMON, PROMPT

SAMPLE = Path(__file__).resolve().parents[2] / "model" / "sample"


def transformers_greedy(prompt: str, tokens: int) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(SAMPLE)
    model = AutoModelForCausalLM.from_pretrained(SAMPLE, dtype=torch.float32).eval()
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            pad_token_id=0,
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
        )
    return out[0, ids.shape[1] :].tolist()


def test_f32_through_three_peers_equals_transformers():
    with LocalSwarm(*COMMON, "--profile", "f32") as swarm:
        swarm.start(["0:10", "8:16", "16:24"])
        with Client(swarm=swarm.join) as client:
            result = client.generate(PROMPT, max_new_tokens=100, ignore_eos=True)
    assert len(result.route) == 3
    # min_new_tokens masks the end-of-text token in transformers; up to where it would come the tokens are comparable.
    end = result.token_ids.index(0) if 0 in result.token_ids else len(result.token_ids)
    assert end > 20
    assert list(result.token_ids[:end]) == transformers_greedy(PROMPT, 100)[:end]


@pytest.mark.parametrize("wire", list(WireDType))
def test_c8_gives_the_same_tokens_wherever_the_route_is_cut(wire: WireDType):
    answers = []
    for spans in (["0:24"], ["0:7", "7:13", "13:24"]):
        with LocalSwarm(*COMMON) as swarm:
            swarm.start(spans)
            with Client(swarm=swarm.join, config=ClientConfig(wire=wire, prefill_chunk=5)) as client:
                result = client.generate(PROMPT, max_new_tokens=40, ignore_eos=True, logprobs=1)
                assert len(result.route) == len(spans)
                answers.append((result.token_ids, result.logprobs))
    assert answers[0] == answers[1]
