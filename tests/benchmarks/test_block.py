from __future__ import annotations

import pytest
import torch
from rich.progress import Progress

import kernels
from benchmarks import block
from benchmarks.kit.shapes import SMALL
from kernels import reference

PLAN = block.Plan(
    shape=SMALL, rounds=1, chunk_rounds=1, decodes=(1, 3), chunks=(5,), contexts=(10, 40), beyond=1 << 17,
    read_bytes=1 << 16,
)  # fmt: skip


def test_every_number_of_rows_is_measured_at_every_context():
    found = block.measure(1, PLAN, Progress(disable=True))
    assert [(row["context"], row["rows"]) for row in found.rows] == [(c, r) for c in (10, 40) for r in (1, 3, 5)]
    assert found.python_us > 0.0
    block.show(found)
    assert len(block.bars(found)) == 3


def test_implementations_are_compared_as_often_as_they_run_here():
    for check in block.check_bits(PLAN):
        assert check["equal"]
        assert ("reference" in check["implementations"]) == (check["rows"] <= block.REFERENCE_ROWS)


def test_another_bit_is_seen(monkeypatch: pytest.MonkeyPatch):
    class Liar:
        layout = "rows"

        def block(self, *operands: torch.Tensor) -> torch.Tensor:
            return -(-reference.block(*operands) * (1 + 2**-23))  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(kernels, "select", lambda name, threads: Liar() if name == "avx2" else reference)
    digests = block.same_bits(SMALL, 2, 1, 10, ("avx2", "portable", "reference"))
    assert digests["avx2"] != digests["portable"] == digests["reference"]
