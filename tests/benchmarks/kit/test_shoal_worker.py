from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.kit.checkpoint import random_checkpoint
from benchmarks.kit.shapes import SMALL
from benchmarks.kit.shoal_worker import Contestant


def test_the_contestant_answers_what_the_benchmark_asks(tmp_path: Path):
    threads = torch.get_num_threads()
    try:
        it = Contestant(random_checkpoint(SMALL, tmp_path), tmp_path / "spans", 1, 70, 1 << 16)
    finally:
        torch.set_num_threads(threads)
    assert it.decode(context=60, steps=3) > 0.0 and it.prefill(tokens=20) > 0.0 and it.read() > 0.0
    assert len(it.logits(tokens=20)) == SMALL.vocab
    assert it.about()["isa"]
    assert len(it.pages) == 3
