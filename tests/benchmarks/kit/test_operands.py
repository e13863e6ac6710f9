from __future__ import annotations

import torch

from benchmarks.kit.operands import beyond_caches, nbytes, random_batch, random_block, random_linear
from benchmarks.kit.shapes import SMALL
from kernels import panels, reference


def test_copies_hold_more_than_was_asked_for_and_share_no_memory():
    for matrix in (random_linear(96, 130), panels.pack(random_linear(96, 130))):
        copies = beyond_caches(matrix, 100_000)
        assert sum(map(nbytes, copies)) > 100_000
        pointers = {(copy.data if hasattr(copy, "data") else copy.weight).data_ptr() for copy in copies}
        assert len(pointers) == len(copies)


def test_channels_of_padding_are_zero():
    assert not random_linear(8, 70).weight[:, 70:].any()


def test_a_batch_has_pages_for_its_rows_and_goes_through_a_block():
    batch = random_batch(SMALL, 3, 2, 40)
    assert batch.rows.positions.tolist() == [40, 41] * 3
    assert len({page for seat in batch.rows.seats for page in seat.pages}) == 6 == len(batch.k_pages)
    block = random_block(reference, SMALL)
    y = reference.block(
        batch.x, block, SMALL.block_shape, batch.rows, batch.cos, batch.sin, batch.k_pages, batch.v_pages
    )
    assert torch.isfinite(y).all() and 0.5 < y.std() < 4.0
