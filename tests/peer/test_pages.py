from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peer.pages import PagePool
from swarm.errors import Refused


def reserve(pool: PagePool, count: int) -> tuple[int, ...]:
    """Promise and take."""
    pool.promise(count)
    pages = [pool.take() for _ in range(count)]
    assert None not in pages
    return tuple(page for page in pages if page is not None)


def test_reserved_pages_are_distinct_and_counted():
    pool = PagePool(8)
    pages = reserve(pool, 3) + reserve(pool, 5)
    assert sorted(pages) == list(range(8))
    assert (pool.used, pool.free, pool.total) == (8, 0, 8)


def test_what_does_not_fit_now_is_refused_with_both_numbers_and_a_time():
    pool = PagePool(8)
    reserve(pool, 6)
    with pytest.raises(Refused, match="3 pages wanted, 2 of 8 are free") as refused:
        reserve(pool, 3)
    assert refused.value.retry_after_s is not None
    assert pool.used == 6


def test_what_can_never_fit_is_refused_without_a_time():
    with pytest.raises(Refused, match="9 pages wanted, this peer has 8") as refused:
        reserve(PagePool(8), 9)
    assert refused.value.retry_after_s is None


def test_a_page_released_twice_is_our_own_mistake():
    pool = PagePool(4)
    pages = reserve(pool, 2)
    pool.release(pages)
    with pytest.raises(AssertionError, match="is not taken"):
        pool.release(pages)


@pytest.mark.parametrize("page", [-1, 4])
def test_a_page_that_does_not_exist_cannot_be_released(page: int):
    with pytest.raises(AssertionError):
        PagePool(4).release([page])


def digest(number: int) -> bytes:
    return number.to_bytes(16, "little")


def kept(pool: PagePool, count: int, first: int = 0) -> tuple[int, ...]:
    pages = reserve(pool, count)
    for index, page in enumerate(pages, first):
        pool.keep(page, digest(index))
    return pages


def digests(*numbers: int) -> list[bytes]:
    return [digest(number) for number in numbers]


def test_a_page_is_free_when_its_last_holder_has_released_it():
    pool = PagePool(4)
    (page,) = reserve(pool, 1)
    pool.share([page])
    assert pool.is_shared(page)
    pool.release([page])
    assert (pool.used, pool.is_shared(page)) == (1, False)
    pool.release([page])
    assert pool.used == 0


def test_kept_pages_are_free_and_can_be_found_again():
    pool = PagePool(8)
    pages = kept(pool, 3)
    pool.release(pages)
    assert (pool.used, pool.free, pool.cached) == (0, 8, 3)
    assert pool.find(digests(0, 1, 2, 3)) == pages
    assert (pool.used, pool.cached, pool.hits) == (3, 0, 3)


def test_pages_that_are_held_are_found_and_shared():
    pool = PagePool(8)
    pages = kept(pool, 2)
    assert pool.find(digests(0, 1)) == pages
    assert pool.is_shared(pages[0]) and pool.used == 2


def test_a_run_ends_at_the_first_page_that_is_not_there():
    pool = PagePool(8)
    pages = kept(pool, 3)
    pool.forget(pages[1])
    assert pool.find(digests(0, 1, 2)) == pages[:1]


def test_the_first_page_of_a_digest_stays_the_one_that_is_found():
    pool = PagePool(8)
    (first,), (second,) = kept(pool, 1), kept(pool, 1)
    assert pool.find(digests(0)) == (first,)
    pool.release([second])
    assert pool.cached == 0, "nobody would ever find it"


def test_a_page_that_is_kept_under_another_name_loses_the_first():
    pool = PagePool(8)
    (page,) = kept(pool, 1)
    pool.keep(page, digest(9))
    assert (pool.find(digests(0)), pool.find(digests(9))) == ((), (page,))


def test_what_was_never_kept_is_used_before_what_is_cached():
    pool = PagePool(4)
    pages = kept(pool, 2)
    pool.release(pages)
    assert not set(reserve(pool, 2)) & set(pages)
    assert pool.cached == 2


def test_the_least_recently_used_is_evicted_first_and_of_one_seat_its_last_page():
    pool = PagePool(6)
    old, new = kept(pool, 3), kept(pool, 3, first=10)
    pool.release(old)
    pool.release(new)
    pool.release(pool.find(digests(0)))  # the very first is used again
    assert reserve(pool, 4) == (old[2], old[1], new[2], new[1])
    assert pool.find(digests(0, 1)) == old[:1]


def test_what_is_promised_can_be_taken_page_by_page():
    pool = PagePool(8)
    pool.release(kept(pool, 8))
    pool.promise(5)
    assert (pool.owed, pool.promisable, pool.used) == (5, 3, 0)
    assert len(pool.find(digests(0, 1, 2, 3, 4))) == 3, "the other five are owed"
    taken = [pool.take() for _ in range(5)]
    assert None not in taken and pool.used == 8
    assert (pool.owed, pool.promisable) == (0, 0)


def test_no_more_is_promised_than_there_is():
    pool = PagePool(8)
    pool.promise(5)
    with pytest.raises(Refused, match="4 pages wanted, 3 of 8 are free") as refused:
        pool.promise(4)
    assert refused.value.retry_after_s is not None
    with pytest.raises(Refused, match="4 pages wanted, 3 of 8"):
        reserve(pool, 4)
    pool.forgive(1)
    pool.promise(4)
    with pytest.raises(AssertionError, match="8 are owed"):
        pool.forgive(9)


def test_overcommitted_promises_may_have_to_wait_for_a_swap():
    pool = PagePool(4, overcommit=2.0)
    pool.promise(4)
    pool.promise(4)
    with pytest.raises(Refused, match="5 pages wanted, this peer has 4"):
        pool.promise(5)
    first = [page for page in (pool.take() for _ in range(4)) if page is not None]
    assert pool.take() is None and pool.owed == 4
    pool.suspend(first[:2])
    assert (pool.owed, pool.used) == (6, 2)
    assert pool.take() in first[:2]


def test_a_page_that_was_not_promised_is_not_taken():
    with pytest.raises(AssertionError, match="not promised"):
        PagePool(4).take()


class Books(RuleBasedStateMachine):
    """Seats that promise, take, share, keep, find and leave, against plain lists of who holds what."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(12)
        self.seats: list[list[int]] = []
        self.owed: list[int] = []
        self.content: dict[int, bytes] = {}  # what is in a Page, where somebody kept it and nobody wrote since

    @rule(count=st.integers(1, 6))
    def open(self, count: int) -> None:
        try:
            self.pool.promise(count)
        except Refused:
            return
        self.seats.append([])
        self.owed.append(count)

    @rule(names=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True))
    def find(self, names: list[int]) -> None:
        pages = self.pool.find(digests(*names))
        for page, name in zip(pages, names, strict=False):
            assert self.content[page] == digest(name), "found under a name that is not its own"
        self.seats.append(list(pages))
        self.owed.append(0)

    @precondition(lambda self: self.seats)
    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.seats) - 1))
        seat = self.seats[index]
        kind = data.draw(st.sampled_from(["take", "keep", "forget", "fork", "close", "suspend"]))
        if kind == "take" and self.owed[index]:
            page = self.pool.take()
            assert page is not None, "what is promised is there"
            assert all(page not in pages for pages in self.seats), "nobody else holds it"
            self.content.pop(page, None)
            seat.append(page)
            self.owed[index] -= 1
        elif kind in ("keep", "forget") and seat:
            page = data.draw(st.sampled_from(seat))
            if kind == "forget":
                self.pool.forget(page)
                self.content.pop(page, None)
            else:
                name = digest(data.draw(st.integers(0, 9)))
                if name not in self.content.values():
                    self.content[page] = name
                self.pool.keep(page, name)
        elif kind == "fork":
            self.pool.share(seat)
            self.seats.append(list(seat))
            self.owed.append(0)
        elif kind in ("close", "suspend"):
            del self.seats[index]
            owed = self.owed.pop(index)
            if kind == "suspend" and all(not self.pool.is_shared(page) for page in seat):
                self.pool.suspend(seat)
                owed += len(seat)
            else:
                self.pool.release(seat)
            self.pool.forgive(owed)

    @invariant()
    def the_numbers_add_up(self) -> None:
        pool, held = self.pool, {page for pages in self.seats for page in pages}
        assert pool.used == len(held)
        assert pool.owed == sum(self.owed)
        assert pool.used + pool.owed <= pool.total
        assert pool.used + pool.free == pool.total and 0 <= pool.cached <= pool.free
        for page in held:
            assert pool.is_shared(page) == (sum(pages.count(page) for pages in self.seats) > 1)


TestBooks = Books.TestCase


@given(st.lists(st.integers(1, 6), max_size=30), st.randoms(use_true_random=False))
def test_whatever_is_reserved_and_released_in_any_order_nothing_leaks(counts: list[int], random):
    pool, held = PagePool(16), []
    for count in counts:
        try:
            held.append(reserve(pool, count))
        except Refused:
            if held:
                pool.release(held.pop(random.randrange(len(held))))
        taken = [page for pages in held for page in pages]
        assert len(set(taken)) == len(taken) == pool.used
    for pages in held:
        pool.release(pages)
    assert pool.used == 0
