"""How much memory ``load_span`` takes while it works."""

import json
import os
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import read_config
from model.layout import model_tensors
from model.safetensors_header import build_header
from model.source import SINGLE, Source, open_source
from model.weights import load_span
from swarm.span import Span
from tests.support.checkpoints import make_variant

ROOT = Path(__file__).resolve().parents[2]
ALL = Span(0, 4)


class Watched(Source):
    """A Source that knows how many bytes of what it gave away are still in somebody's hands."""

    held = most = 0

    def read(self, *arguments: Any, **options: Any) -> torch.Tensor:
        tensor = super().read(*arguments, **options)
        self.held += tensor.nbytes
        self.most = max(self.most, self.held)
        weakref.finalize(tensor, self._released, tensor.nbytes)
        return tensor

    def _released(self, count: int) -> None:
        self.held -= count


@pytest.mark.parametrize("vocab_size", [40, 400])  # the largest is a Block's, or the embedding
def test_no_more_than_one_matrix_of_the_checkpoint_and_its_bias_are_held_at_once(tmp_path, vocab_size):
    directory = make_variant(tmp_path, "llama-biases", dtype=torch.bfloat16, vocab_size=vocab_size)
    source = Watched("m", directory, open_source(directory).files, None)
    load_span(source, read_config(directory), ALL)
    largest = max(entry.nbytes for entry in source.tensors.values())
    assert largest <= source.most <= 1.05 * largest


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the high-water mark from Linux")
def test_peak_memory_is_the_int8_span_and_one_tensor(tmp_path):
    """A checkpoint of zeros (a sparse file): 331 MB of bf16, of which the embedding is 197 MB; an FP32 copy of it would
    take 393 MB.
    """
    hidden, inner, vocab, blocks = 1024, 4096, 96_000, 4
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": blocks,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": vocab,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes = model_tensors(read_config(tmp_path))
    header = build_header({name: ("BF16", shape) for name, shape in shapes.items()}, {})
    with (tmp_path / SINGLE).open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * sum(torch.Size(shape).numel() for shape in shapes.values()))
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(read_config(tmp_path)))
    code = """
import pickle, re, sys
from pathlib import Path
from model.source import open_source
from model.weights import load_span
from swarm.span import Span

def high_water() -> int:
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10

source, config = open_source(sys.argv[1]), pickle.loads(Path(sys.argv[1], "config.pickle").read_bytes())
before = high_water()
weights = load_span(source, config, Span(0, 4), "c8", sys.argv[2])
largest = max(entry.nbytes for entry in source.tensors.values())
print(high_water() - before, weights.nbytes, largest)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "cache")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ran.returncode == 0, ran.stderr
    grown, int8, largest = map(int, ran.stdout.split())
    assert 165e6 < int8 < 175e6 and 195e6 < largest < 200e6
    assert grown < int8 + largest + 110e6, f"peak {grown / 1e6:.0f} MB over {int8 / 1e6:.0f} + {largest / 1e6:.0f} MB"
