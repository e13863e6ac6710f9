"""The bits of a whole Block, written down: they may change only together with the definition, and on no machine.

Everything is made of integers here, because torch's random numbers go through libm.
"""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import torch

from kernels import reference
from kernels.types import PAGE_SIZE, BatchRows, BlockShape, Linear, SeatRows


class Numbers:
    """A linear congruential generator: the same integers everywhere."""

    def __init__(self) -> None:
        self.state = 1

    def integers(self, *shape: int, bound: int) -> torch.Tensor:
        """From -bound to bound."""
        count, found = torch.Size(shape).numel(), []
        for _ in range(count):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
            found.append((self.state >> 33) % (2 * bound + 1) - bound)
        return torch.tensor(found).view(shape)

    def floats(self, *shape: int) -> torch.Tensor:
        return self.integers(*shape, bound=1 << 20).float() / (1 << 18)

    def linear(self, out: int, width: int, group: int, bias: bool) -> Linear:
        groups = -(-width // group)
        weight = torch.nn.functional.pad(self.integers(out, width, bound=127), (0, groups * group - width))
        scale = (self.integers(out, groups, bound=400) + 500).float() / (1 << 20)
        return Linear(weight.to(torch.int8), scale.half(), self.floats(out) / 8 if bias else None, width)


def test_a_whole_block_has_the_bits_that_it_always_had():
    numbers = Numbers()
    hidden, inner, shape = 80, 112, BlockShape(4, 2, 24, 1e-5, window=40)
    weights = SimpleNamespace(
        norm1=numbers.floats(hidden),
        qkv=numbers.linear((4 + 2 + 2) * 24, hidden, 32, True),
        o=numbers.linear(hidden, 4 * 24, 32, False),
        norm2=numbers.floats(hidden),
        gate_up=numbers.linear(2 * inner, hidden, 32, True),
        down=numbers.linear(hidden, inner, 32, True),
        q_norm=numbers.floats(24),
        k_norm=numbers.floats(24),
    )
    rows = BatchRows.of([SeatRows((2, 0), 0, 45), SeatRows((1,), 0, 3)])
    angle = numbers.floats(48, 12)
    cos, sin = angle / 4, (1 - angle * angle / 16).abs()  # no rotation, but numbers like any others
    k_pages, v_pages = torch.zeros(2, 3, PAGE_SIZE, 2, 24).half()
    x = numbers.floats(48, hidden)
    y = reference.block(x, weights, shape, rows, cos, sin, k_pages, v_pages)
    assert torch.isfinite(y).all()
    assert hashlib.sha256(y.numpy().astype("<f4").tobytes()).hexdigest()[:16] == "281289cab32e3341"
    assert hashlib.sha256(k_pages.numpy().astype("<f2").tobytes()).hexdigest()[:16] == "85f5c9fe35255789"
