from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kit.checkpoint import random_checkpoint
from benchmarks.kit.gguf_export import can_export, gguf_file, gguf_name, interleaved
from benchmarks.kit.llama_worker import can_run
from benchmarks.kit.shapes import SMALL
from benchmarks.kit.workers import Worker
from kernels.types import SeatRows
from model.config import read_config
from model.source import open_source
from model.span_model import SpanModel

needs_gguf = pytest.mark.skipif(not can_export(), reason="the extra bench is not installed")


def test_names_are_llama_cpps():
    assert gguf_name("model.layers.13.self_attn.o_proj.weight") == "blk.13.attn_output.weight"
    assert gguf_name("model.layers.0.input_layernorm.weight") == "blk.0.attn_norm.weight"
    assert gguf_name("lm_head.weight") == "output.weight"


def test_channels_that_are_rotated_together_become_neighbours():
    rows = torch.arange(8.0).view(8, 1).expand(8, 3)  # two heads of four channels
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@needs_gguf
def test_the_file_has_every_tensor_and_is_made_once(tmp_path: Path):
    import gguf

    checkpoint, advanced = random_checkpoint(SMALL, tmp_path), []
    path = gguf_file(checkpoint, "Q8_0", lambda: advanced.append(1))
    reader: Any = gguf.GGUFReader(path)
    assert len(reader.tensors) == len(advanced) == 9 * SMALL.blocks + 3
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.1.ffn_down.weight"] == "Q8_0" and kinds["blk.1.ffn_norm.weight"] == "F32"
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == SMALL.vocab
    assert gguf_file(checkpoint, "Q8_0", lambda: advanced.append(1)) == path
    assert len(advanced) == len(reader.tensors)


@needs_gguf
def test_a_file_whose_writing_fails_leaves_nothing(tmp_path: Path):
    def interrupt() -> None:
        raise KeyboardInterrupt

    checkpoint = random_checkpoint(SMALL, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        gguf_file(checkpoint, "BF16", interrupt)
    assert not [path for path in checkpoint.iterdir() if "gguf" in path.name]


@needs_gguf
@pytest.mark.skipif(not can_run(), reason="the extra bench is not installed")
@pytest.mark.parametrize(("form", "least"), [("BF16", 0.9999), ("Q8_0", 0.999)])
def test_llama_cpp_computes_the_same_model(form: Any, least: float, tmp_path: Path):
    checkpoint = random_checkpoint(SMALL, tmp_path)
    with Worker("benchmarks.kit.llama_worker", str(gguf_file(checkpoint, form)), "1", "64") as worker:
        theirs = torch.tensor(worker.ask("logits", tokens=20))
        assert worker.ask("decode", context=10, steps=2) > 0.0 and worker.ask("prefill", tokens=20) > 0.0
        assert torch.equal(torch.tensor(worker.ask("logits", tokens=20)), theirs)
    model = SpanModel.load(open_source(str(checkpoint)), read_config(checkpoint), SMALL.model_config().span, "f32", 1)
    ids = [300 + index % 64 for index in range(20)]
    ours = model.logits(model.run(model.span, model.embed(ids), [SeatRows((0,), 0, 20)])[-1:])[0]
    assert torch.cosine_similarity(theirs, ours, 0) > least
