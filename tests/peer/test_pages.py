from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.pages import PagePool
from swarm.errors import Refused


def test_reserved_pages_are_distinct_and_counted():
    pool = PagePool(8)
    pages = pool.reserve(3) + pool.reserve(5)
    assert sorted(pages) == list(range(8))
    assert (pool.used, pool.free, pool.total) == (8, 0, 8)


def test_what_does_not_fit_now_is_refused_with_both_numbers_and_a_time():
    pool = PagePool(8)
    pool.reserve(6)
    with pytest.raises(Refused, match="3 pages wanted, 2 of 8 are free") as refused:
        pool.reserve(3)
    assert refused.value.retry_after_s is not None
    assert pool.used == 6


def test_what_can_never_fit_is_refused_without_a_time():
    with pytest.raises(Refused, match="9 pages wanted, this peer has 8") as refused:
        PagePool(8).reserve(9)
    assert refused.value.retry_after_s is None


def test_a_page_released_twice_is_our_own_mistake():
    pool = PagePool(4)
    pages = pool.reserve(2)
    pool.release(pages)
    with pytest.raises(AssertionError, match="is not taken"):
        pool.release(pages)


@pytest.mark.parametrize("page", [-1, 4])
def test_a_page_that_does_not_exist_cannot_be_released(page: int):
    with pytest.raises(AssertionError):
        PagePool(4).release([page])


@given(st.lists(st.integers(1, 6), max_size=30), st.randoms(use_true_random=False))
def test_whatever_is_reserved_and_released_in_any_order_nothing_leaks(counts: list[int], random):
    pool, held = PagePool(16), []
    for count in counts:
        try:
            held.append(pool.reserve(count))
        except Refused:
            if held:
                pool.release(held.pop(random.randrange(len(held))))
        taken = [page for pages in held for page in pages]
        assert len(set(taken)) == len(taken) == pool.used
    for pages in held:
        pool.release(pages)
    assert pool.used == 0
