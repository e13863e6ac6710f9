"""Packing against a scalar twin that places one weight at a time, as docs and headers describe the layout."""

from __future__ import annotations

import struct

import pytest
import torch

from kernels.panels import PIECE_BYTES, Panels, pack, unpack
from kernels.types import Linear

SHAPES = [(1, 1), (1, 64), (63, 65), (64, 64), (65, 128), (130, 200), (200, 3), (256, 320)]  # out, in


def matrix(out: int, width: int, seed: int = 0, bias: bool = False) -> Linear:
    """Any bytes in the padding of rows too: it is weight like the rest."""
    generator = torch.Generator().manual_seed(seed)
    groups = -(-width // 64)
    weight = torch.randint(-127, 128, (out, groups * 64), generator=generator, dtype=torch.int8)
    scale = torch.randint(0, 0x7C00, (out, groups), generator=generator, dtype=torch.int16).view(torch.float16)
    return Linear(weight, scale, torch.randn(out, generator=generator) if bias else None, width)


def packed_by_hand(linear: Linear) -> bytes:
    weight, scale = linear.weight.tolist(), linear.scale.view(torch.int16).tolist()
    out = bytearray()
    for panel in range(0, linear.out_features, 64):
        for group in range(linear.groups):
            rows = range(panel, panel + 64)
            for quad in range(16):
                for row in rows:
                    for channel in range(group * 64 + quad * 4, group * 64 + quad * 4 + 4):
                        out.append((weight[row][channel] if row < linear.out_features else 0) + 128)
            for row in rows:
                out += struct.pack("<h", scale[row][group] if row < linear.out_features else 0)
    return bytes(out)


@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_every_byte_lies_where_the_layout_says(out: int, width: int):
    linear = matrix(out, width)
    panels = pack(linear)
    assert panels.data.shape == (-(-out // 64), -(-width // 64), PIECE_BYTES) and PIECE_BYTES == 64 * 64 + 128
    assert panels.data.numpy().tobytes() == packed_by_hand(linear)
    assert (panels.out_features, panels.in_features, panels.groups, panels.group) == (out, width, linear.groups, 64)


@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_unpacking_gives_back_every_bit(out: int, width: int):
    linear = matrix(out, width, bias=True)
    back = unpack(pack(linear))
    assert back.weight.equal(linear.weight) and back.scale.view(torch.int16).equal(linear.scale.view(torch.int16))
    assert back.in_features == width and back.bias is linear.bias


def test_a_matrix_that_is_packed_in_several_slices_is_no_different(monkeypatch: pytest.MonkeyPatch):
    linear = matrix(330, 130)
    whole = pack(linear).data
    monkeypatch.setattr("kernels.panels._AT_A_TIME", 2 * 64 * 192)
    assert pack(linear).data.equal(whole)


def test_slices_of_a_larger_matrix_are_packed_as_they_are():
    linear = matrix(200, 128)
    part = Linear(linear.weight[64:164], linear.scale[64:164], None, 128)
    assert pack(part).data.equal(pack(Linear(part.weight.clone(), part.scale.clone(), None, 128)).data)


def test_panels_start_on_a_cache_line():
    assert pack(matrix(130, 200)).data.data_ptr() % 64 == 0 and PIECE_BYTES % 64 == 0


def test_a_large_matrix_has_memory_of_its_own_and_gives_it_back(monkeypatch: pytest.MonkeyPatch):
    linear = matrix(300, 130)
    whole = pack(linear).data
    monkeypatch.setattr("kernels.memory.HUGE_PAGE_BYTES", 4096)
    one, other = pack(linear), pack(linear)
    assert one.data.equal(whole) and one.data.data_ptr() % 4096 == 0 and one.data.data_ptr() != other.data.data_ptr()
    del other
    assert unpack(one).weight.equal(linear.weight)


def test_other_groups_and_shapes_are_refused():
    with pytest.raises(AssertionError, match="the matrix has 32"):
        pack(Linear(torch.zeros(4, 64, dtype=torch.int8), torch.zeros(4, 2).half(), None, 64))
    data = pack(matrix(64, 64)).data
    with pytest.raises(AssertionError, match="expected"):
        Panels(data, None, 65, 64)
    with pytest.raises(AssertionError, match="expected"):
        Panels(data, None, 64, 65)
    with pytest.raises(AssertionError, match="int8"):
        Panels(data.view(torch.int8), None, 64, 64)
