"""The two profiles' attentions have the same options; whole models are compared in test_span_model."""

from __future__ import annotations

import pytest
import torch

from kernels import reference
from kernels.types import PAGE_SIZE, BatchRows, BlockShape, SeatRows
from model.block import _attend


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("softcap", [None, 2.5])
def test_attention_of_profile_f32_is_that_of_c8_but_for_its_last_bits(softcap: float | None, window: int | None):
    generator = torch.Generator().manual_seed(0)
    k, v = torch.randn(2, 5, 2, PAGE_SIZE, 16, generator=generator).half()
    q = torch.randn(9, 4, 16, generator=generator) * 4
    seat = SeatRows((3, 0, 4), 60, 9)
    exact = reference.attention(q, BatchRows.of([seat]), k, v, window, softcap)
    ours = _attend(q, seat, k.float(), v.float(), BlockShape(4, 2, 16, 1e-5, window, softcap))
    torch.testing.assert_close(ours.flatten(1), exact, rtol=1e-5, atol=1e-5)
