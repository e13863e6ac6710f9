"""Profile f32 equals transformers: every family and option, 200 greedy tokens and their logits.

transformers reads the whole text at once and must name, at every position, the token that Shoal chose there step by
step. That is the same as comparing two greedy generations, and much faster. Dynamic RoPE depends on how long the text
is at each step, so there transformers generates too.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kernels.types import PAGE_SIZE, SeatRows
from model.config import read_config
from model.source import open_source
from model.span_model import SpanModel
from tests.support.checkpoints import VARIANTS, make_variant

PROMPT, STEPS = 23, 200
PAGES = tuple(range(3, 3 + -(-(PROMPT + STEPS) // PAGE_SIZE)))


def ours(directory: Path) -> tuple[list[int], torch.Tensor]:
    """A prompt in chunks of 7 and 200 greedy tokens after it; the logits that each was chosen from."""
    source = open_source(str(directory), None, None)
    config = read_config(source.directory, "random")
    model = SpanModel.load(source, config, config.span, "f32", 16)
    ids = torch.randint(config.vocab_size, (PROMPT,), generator=torch.Generator().manual_seed(1)).tolist()
    chosen: list[torch.Tensor] = []
    for start in range(0, PROMPT, 7):
        piece = ids[start : start + 7]
        x = model.run(config.span, model.embed(piece), [SeatRows(PAGES, start, len(piece))])
    for position in range(PROMPT, PROMPT + STEPS):
        chosen.append(model.logits(x[-1:])[0])
        ids.append(int(chosen[-1].argmax()))
        x = model.run(config.span, model.embed(ids[-1:]), [SeatRows(PAGES, position, 1)])
    return ids, torch.stack(chosen)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_200_greedy_tokens_and_their_logits_are_transformers(tmp_path: Path, variant: str):
    from transformers import AutoModelForCausalLM

    directory = make_variant(tmp_path, variant)
    ids, logits = ours(directory)
    oracle = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    text = torch.tensor([ids])
    if "dynamic" in variant:
        prompt = text[:, :PROMPT]
        answer = oracle.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            pad_token_id=0,
            do_sample=False,
            max_new_tokens=STEPS,
            output_logits=True,
            return_dict_in_generate=True,
        )
        expected = torch.cat(answer.logits)
        assert answer.sequences[0].tolist() == ids
    else:
        expected = oracle(text[:, :-1]).logits[0, PROMPT - 1 :]
    assert expected.argmax(-1).tolist() == ids[PROMPT:]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert len(set(ids[PROMPT:])) > 1, "a text this dull proves little"
