from __future__ import annotations

import pytest
import torch

from kernels.types import PAGE_SIZE, BatchRows, Linear, SeatRows


def test_a_linear_knows_its_groups():
    linear = Linear(torch.zeros(3, 128, dtype=torch.int8), torch.zeros(3, 2).half(), None, 100)
    assert (linear.out_features, linear.in_features, linear.groups, linear.group) == (3, 100, 2, 64)


@pytest.mark.parametrize("in_features", [64, 129])
def test_a_linear_with_a_whole_group_of_padding_is_a_mistake(in_features: int):
    with pytest.raises(AssertionError):
        Linear(torch.zeros(3, 128, dtype=torch.int8), torch.zeros(3, 2).half(), None, in_features)


def test_a_seat_without_pages_for_its_rows_is_a_mistake():
    SeatRows((1,), 0, PAGE_SIZE)
    with pytest.raises(AssertionError, match="2 Pages"):
        SeatRows((1,), 0, PAGE_SIZE + 1)


def test_batch_rows_find_the_slot_of_every_row():
    rows = BatchRows.of([SeatRows((5, 2), 31, 3), SeatRows((7,), 4, 1)])
    assert rows.positions.tolist() == [31, 32, 33, 4]
    assert rows.slots.tolist() == [5 * 32 + 31, 2 * 32, 2 * 32 + 1, 7 * 32 + 4]
    assert rows.count == 4
