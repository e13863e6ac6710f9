from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.messages import Hidden, WireDType
from proto.tensors import from_hidden, to_hidden
from swarm.errors import BadNumbers, BadRequest

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def test_f32_is_row_major_little_endian_and_exact():
    rows = torch.tensor([[1.0, -2.5, 3e-45], [0.0, -0.0, 3.4028234663852886e38]])
    hidden = to_hidden(rows, WireDType.F32)
    assert hidden == Hidden(WireDType.F32, 2, 3, struct.pack("<6f", *rows.flatten().tolist()))
    assert from_hidden(hidden).view(torch.int32).equal(rows.view(torch.int32))


@pytest.mark.parametrize(
    ("bits", "rounded"),
    [
        (0x3F808000, 0x3F80),  # halfway, even below: down
        (0x3F818000, 0x3F82),  # halfway, odd below: up
        (0x3F808001, 0x3F81),  # just above halfway
        (0x3F807FFF, 0x3F80),  # just below
        (0x80000000, 0x8000),  # -0.0
        (0x00008001, 0x0001),  # a denormal stays one
        (0x00007FFF, 0x0000),
    ],
)
def test_bf16_rounds_to_nearest_ties_to_even(bits: int, rounded: int):
    value = torch.tensor([[bits - (1 << 32) if bits >> 31 else bits]], dtype=torch.int32).view(torch.float32)
    assert to_hidden(value, WireDType.BF16).data == struct.pack("<H", rounded)


@given(st.lists(finite, min_size=6, max_size=6), st.sampled_from(WireDType))
@settings(deadline=None)
def test_what_travelled_once_travels_again_unchanged(values: list[float], dtype: WireDType):
    rows = torch.tensor(values, dtype=torch.float32).reshape(3, 2)
    try:
        once = to_hidden(rows, dtype)
    except BadNumbers:
        assert dtype is WireDType.BF16 and rows.abs().max() > 3.38e38  # rounds to infinity
        return
    assert to_hidden(from_hidden(once), dtype) == once


def test_a_slice_and_a_transposed_tensor_travel_as_they_look():
    wide = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    for tensor in (wide[1:, 1:3], wide.t()):
        assert from_hidden(to_hidden(tensor, WireDType.F32)).equal(tensor)


@pytest.mark.parametrize("dtype", WireDType)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_neither_leave_nor_enter(dtype: WireDType, value: float):
    rows = torch.tensor([[0.0, value]])
    with pytest.raises(BadNumbers):
        to_hidden(rows, dtype)
    torch_dtype = torch.float32 if dtype is WireDType.F32 else torch.bfloat16
    data = rows.to(torch_dtype).view(torch.uint8).numpy().tobytes()
    with pytest.raises(BadNumbers):
        from_hidden(Hidden(dtype, 1, 2, data))


def test_a_number_too_large_for_bf16_does_not_leave():
    with pytest.raises(BadNumbers):
        to_hidden(torch.tensor([[3.4028234663852886e38]]), WireDType.BF16)


def test_the_tensor_does_not_share_memory_with_the_message():
    hidden = to_hidden(torch.ones(1, 2), WireDType.F32)
    from_hidden(hidden).zero_()
    assert from_hidden(hidden).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("hidden", [Hidden(WireDType.F32, 2, 3, bytes(23)), Hidden(WireDType.BF16, 0, 3, b"")])
def test_sizes_that_disagree_are_refused(hidden: Hidden):
    with pytest.raises(BadRequest, match="expected"):
        from_hidden(hidden)
