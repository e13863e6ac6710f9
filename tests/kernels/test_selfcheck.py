"""The self-check knows the definition, and notices what usually goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from kernels import reference, selfcheck
from kernels.elementary import lane_sum
from kernels.types import Linear, Quantized
from tests.support.variants import Variant

CPU = torch.device("cpu")


def terms(x: Quantized, weight: Linear) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Of each group the dot products and what they are multiplied by, [rows, out]."""
    columns = zip(*(t.double().split(weight.group, 1) for t in (x.values, weight.weight)), strict=True)
    for group, (a, b) in enumerate(columns):
        yield (a @ b.T).float(), weight.scale[:, group].float() * x.scale[:, group, None]


def fused(x: Quantized, weight: Linear) -> torch.Tensor:
    """Each group's product and sum rounded once, as a fused multiply-add does."""
    total = torch.zeros(len(x.values), weight.out_features)
    for dots, steps in terms(x, weight):
        total = (total.double() + dots.double() * steps.double()).float()
    return total


def flushed(x: Quantized, weight: Linear) -> torch.Tensor:
    """Subnormal products of two scales are zero."""
    total = torch.zeros(len(x.values), weight.out_features)
    for dots, steps in terms(x, weight):
        total = total + dots * torch.where(steps < 2.0**-126, 0.0, steps)
    return total


def reciprocal(x: torch.Tensor, group: int) -> Quantized:
    exact = reference.quantize(x, group)
    return Quantized(exact.values, exact.scale * 127 * (1 / 127))


def divided(x: torch.Tensor, group: int) -> Quantized:
    """``x / (amax / 127)`` for ``x * (127 / amax)``."""
    exact = reference.quantize(x, group)
    steps = exact.scale.repeat_interleave(group, 1)
    q = (torch.nn.functional.pad(x, (0, -x.shape[1] % group)) / steps).round()
    return Quantized(q.to(torch.int8), exact.scale)


def other_order(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    mean = lane_sum((x * x).flip(-1)) / x.shape[-1] + eps
    return (x * torch.reciprocal(torch.sqrt(mean.double()).float()).unsqueeze(-1)) * weight


def tiled(x: Quantized, weight: Linear) -> torch.Tensor:
    y = reference.linear(x, weight)
    y[64:] *= 1 + 2.0**-23
    return y


def stale(table: Linear, token_ids: torch.Tensor) -> torch.Tensor:
    return reference.embedding_rows(table, token_ids.clamp(max=116))


def test_the_reference_keeps_c8():
    assert selfcheck.departures(reference, CPU) == []


@pytest.mark.parametrize(
    ("function", "wrong", "part"),
    [
        ("linear", fused, "products"),
        ("linear", flushed, "products"),
        ("linear", tiled, "products"),
        ("quantize", reciprocal, "quantised"),
        ("quantize", divided, "quantised"),
        ("norm", other_order, "norm"),
        ("embedding_rows", stale, "embedding"),
    ],
)
def test_a_wrong_implementation_is_noticed(function: str, wrong: Any, part: str):
    assert part in selfcheck.departures(Variant(**{function: wrong}), CPU)


def test_a_twin_in_other_words_is_not_blamed():
    def linear(x: Quantized, weight: Linear) -> torch.Tensor:
        total = torch.zeros(len(x.values), weight.out_features)
        for dots, steps in terms(x, weight):
            total = total + dots * steps
        return total

    assert selfcheck.departures(Variant(linear=linear), CPU) == []


def test_a_block_that_differs_in_one_bit_is_noticed():
    def block(x: torch.Tensor, *others: Any) -> torch.Tensor:
        y = reference.block(x, *others)
        y[-1, -1] = torch.nextafter(y[-1, -1], torch.tensor(torch.inf))
        return y

    assert selfcheck.departures(Variant(block=block), CPU) == ["prefill", "decode"]
