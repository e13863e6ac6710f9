from __future__ import annotations

import mmap

import pytest
import torch

from kernels.memory import HUGE_PAGE_BYTES, huge


def test_memory_is_as_large_as_asked_for_and_zero():
    memory = huge(HUGE_PAGE_BYTES + 5)
    assert memory is not None
    assert (memory.dtype, len(memory), int(memory.count_nonzero())) == (torch.uint8, HUGE_PAGE_BYTES + 5, 0)
    memory[-1] = 7
    assert memory.sum() == 7


def test_little_memory_comes_from_elsewhere():
    assert huge(HUGE_PAGE_BYTES - 1) is None


def test_a_system_that_knows_no_huge_pages_has_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    assert huge(HUGE_PAGE_BYTES) is None


def test_a_kernel_that_refuses_them_has_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 9999)
    assert huge(HUGE_PAGE_BYTES) is None
