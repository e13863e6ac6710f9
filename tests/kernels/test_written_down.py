"""The bits of a whole Block and of attention, written down: they may change only together with the
definition, and on no machine.

Everything is made of integers here, because torch's random numbers go through libm.
"""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
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


def digest(values: torch.Tensor, kind: str) -> str:
    return hashlib.sha256(values.contiguous().numpy().astype(kind).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("group", "softcap", "expected_y", "expected_k"),
    [
        (32, None, "55b6c589e8c156f8", "f8efd52c0395f3d9"),
        (64, None, "aad796bd9156aeb3", "67860ae33248f9e8"),  # what native kernels compute
        (64, 3.5, "b87fc0ef3b89ca96", "67860ae33248f9e8"),
    ],
)
def test_a_whole_block_has_the_bits_that_it_always_had(
    group: int, softcap: float | None, expected_y: str, expected_k: str
):
    numbers = Numbers()
    hidden, inner, shape = 80, 112, BlockShape(4, 2, 24, 1e-5, window=40, softcap=softcap)
    weights = SimpleNamespace(
        norm1=numbers.floats(hidden),
        qkv=numbers.linear((4 + 2 + 2) * 24, hidden, group, True),
        o=numbers.linear(hidden, 4 * 24, group, False),
        norm2=numbers.floats(hidden),
        gate_up=numbers.linear(2 * inner, hidden, group, True),
        down=numbers.linear(hidden, inner, group, True),
        q_norm=numbers.floats(24),
        k_norm=numbers.floats(24),
    )
    rows = BatchRows.of([SeatRows((2, 0), 0, 45), SeatRows((1,), 0, 3)])
    angle = numbers.floats(48, 12)
    cos, sin = angle / 4, (1 - angle * angle / 16).abs()  # no rotation, but numbers like any others
    k_pages, v_pages = torch.zeros(2, 3, 2, PAGE_SIZE, 24).half()
    x = numbers.floats(48, hidden)
    y = reference.block(x, weights, shape, rows, cos, sin, k_pages, v_pages)
    assert torch.isfinite(y).all()
    assert (digest(y, "<f4"), digest(k_pages, "<f2")) == (expected_y, expected_k)


@pytest.mark.parametrize(("softcap", "expected"), [(None, "02d3567bb4fc3bd3"), (5.0, "00e4564e3723ce16")])
def test_attention_has_the_bits_that_it_always_had(softcap: float | None, expected: str):
    """Seats that decode over several Pages beside one that comes in a Chunk; no window."""
    numbers = Numbers()
    seats = [SeatRows((4, 1, 6), 95, 1), SeatRows((0,), 9, 1), SeatRows((3, 5), 25, 20)]
    k_pages, v_pages = numbers.floats(2, 7, 2, PAGE_SIZE, 24).half()
    q = numbers.floats(22, 4, 24)
    assert digest(reference.attention(q, BatchRows.of(seats), k_pages, v_pages, None, softcap), "<f4") == expected
