"""Housing by its effect: whatever happens in whatever order, a Seat reads what its own tokens lead to."""

from __future__ import annotations

import contextlib
import random
import resource
from collections.abc import Sequence

import pytest

from peer.housing import Attic, Stored
from peer.scheduler import Work
from swarm.errors import Refused
from tests.support.home import MORE, PAGE, Home, Text

ACTS = ("open", "feed", "begin", "end") * 3 + ("draft", "guess", "fork") * 2 + ("guess", "roll", "close")


def bits(number: int, count: int) -> Text:
    """Of two tokens, so that beginnings are often the same."""
    return tuple(number >> index & 1 for index in range(count))


def act(home: Home, what: str, which: int, number: int) -> None:
    """One thing that can happen, if it can happen now."""
    seats = list(home.text)
    seat = seats[which % len(seats)] if seats else None
    if what == "open":
        home.open(bits(number & 0x11, 1 + which * 2), "cd"[number & 1])
    elif what == "begin" and home.under_way is None and any(home.queues.values()):
        home.begin(1 + which)
    elif what == "end" and home.under_way is not None:
        home.end()
    elif seat is None:
        return
    elif what == "close":
        home.close(seat)
    elif what == "roll":
        home.roll_back(seat, number % (seat.done + 1))
    elif what == "fork":
        home.fork(seat, number % (min(seat.done, seat.provisional) + 1))
    elif what == "guess" and seat.provisional < seat.position == seat.done:
        home.feed(seat, bits(number, 1), at=seat.provisional + which % (seat.position - seat.provisional))
    elif what in ("feed", "draft") and seat.position - seat.done < 40:
        room = seat.request.max_tokens - seat.position
        count = min(room, 1 + number % 7)
        if count > 0:
            home.feed(seat, bits(number, count), drafts=which % count if what == "draft" else 0)


@pytest.mark.parametrize("swap_bytes", [0, 1 << 30], ids=["file", "memory"])
@pytest.mark.parametrize(("num_pages", "overcommit"), [(12, 1.0), (24, 1.0), (8, 3.0), (12, 4.0)])
def test_whatever_happens_a_seat_reads_its_own_and_the_books_balance(
    num_pages: int, overcommit: float, swap_bytes: int
):
    swapped_out = found = 0
    for seed in range(40):
        chance, home = random.Random(seed), Home(num_pages, overcommit, swap_bytes)
        for _ in range(120):
            with contextlib.suppress(Refused):
                act(home, chance.choice(ACTS), chance.randrange(8), chance.randrange(1 << 16))
            home.balance()
        if home.under_way is not None:
            home.end()
        home.compute()
        for seat in list(home.text):
            home.close(seat)
        assert (home.pool.used, home.pool.owed, home.housing._attic.used) == (0, 0, 0)
        swapped_out, found = swapped_out + home.housing.swapped_out, found + home.pool.hits
    assert found and bool(swapped_out) >= (overcommit > 1.0), "a test in which too little happened"


# Sharing.


def test_a_page_that_another_reads_is_copied_before_it_is_written_again():
    home = Home()
    first = home.open((1, 2, 3, 4, 5, 6))
    home.write(first, (1, 2, 3, 4, 5, 6))
    second = home.fork(first, 5)
    assert second.pages[0] == first.pages[0] and second.pages[1] != first.pages[1]
    home.roll_back(first, 2)
    home.write(first, (7, 8, 9))
    assert second.pages[0] != first.pages[0]
    home.write(second, (9, 9))
    home.balance()


def test_a_page_that_nobody_else_reads_is_written_in_place_and_found_no_more():
    home = Home()
    seat = home.open((1, 2, 3, 4, 5))
    home.write(seat, (1, 2, 3, 4, 5))
    (page, _) = seat.pages
    home.roll_back(seat, 2)
    home.write(seat, (7, 8, 9))
    assert seat.pages[0] == page
    other = home.open((1, 2, 3, 4, 5))
    assert other.done == 0, "the digest was of what the Page held before"
    home.write(other, (1, 2, 3, 4, 5))


def test_until_then_it_is_found_and_both_go_their_ways():
    home = Home()
    seat = home.open((1, 2, 3, 4, 5))
    home.write(seat, (1, 2, 3, 4, 5))
    home.roll_back(seat, 2)
    other = home.open((1, 2, 3, 4, 5))
    assert other.done == 4
    home.feed(seat, (7, 8, 9))
    home.feed(other, (5, 6))
    home.compute()
    home.balance()


def test_where_no_page_is_free_for_the_copy_somebody_leaves_for_it():
    home = Home(7, 2.0)
    first = home.open((1, 2, 3, 4))
    home.write(first, (1, 2, 3, 4))
    second, third = home.fork(first, 4), home.open((3,))
    home.write(second, (9,) * MORE)
    home.write(third, (3,) * 12)
    assert home.pool.free == 0
    home.roll_back(first, 2)
    home.write(first, (5, 6))
    assert home.housing.swapped_out == 1 and home.pool.used + home.pool.owed <= home.pool.limit
    home.balance()


def test_pages_that_several_share_come_free_when_all_of_them_leave():
    """Neither of two would free anything by leaving alone, so each waited for the other, and the first for both."""
    home = Home(6, 4.0)
    old, second = home.open((8,) * 9), home.open((1,) * 12)
    home.write(old, (8,) * 8)
    home.write(second, (1,) * 16)
    third = home.fork(second, 16)
    assert home.pool.free == 0
    for seat in (third, second, old):
        home.feed(seat, (2, 2))
    home.compute(most=20)
    home.balance()


def test_an_older_seat_that_waits_outside_the_batch_does_not_leave_for_a_younger_one():
    home = Home(4, 2.0)
    old, young = home.open((1,) * 4), home.open((2,))
    home.write(old, (1,) * 16)
    home.feed(young, (2,))
    home.roll_back(old, 15)
    home.feed(old, (1,))
    waiting, home.queues[old] = home.queues[old], type(home.queues[old])()
    housed = home.seats.house(
        [Work(young, home.queues[young][0])], lambda seat: seat is old
    )  # what the scheduler holds back of the other
    assert (housed.go, [work.seat for work in housed.stay]) == ((), [young])
    home.queues[old] = waiting
    home.compute()


def test_a_fork_that_finds_no_page_for_its_last_positions_is_refused_and_takes_nothing():
    home = Home(4, 3.0)
    first = home.open((1, 2, 3, 4))
    home.write(first, (1,) * 16)
    home.roll_back(first, 14)
    with pytest.raises(Refused, match="no page is free"):
        home.fork(first, 13)
    home.balance()
    home.fork(first, 12)
    home.balance()


# Leaving and coming back.


@pytest.mark.parametrize("swap_bytes", [0, 1 << 30], ids=["file", "memory"])
def test_a_seat_that_moved_out_comes_back_with_what_it_had(swap_bytes: int):
    home = Home(4, 2.0, swap_bytes)
    first, second = home.open((1, 2, 3)), home.open((4, 5, 6))
    home.write(first, tuple(range(14)))
    home.write(second, tuple(range(20, 34)))
    assert first.stored is not None and not first.pages
    assert (first.stored.data is None, home.housing._attic.used > 0) == (swap_bytes == 0, swap_bytes > 0)
    home.write(first, (7,))
    assert second.stored is not None and first.stored is None
    home.roll_back(second, 5)
    home.write(second, (7,))
    assert home.housing.swapped_out == 3
    home.balance()
    home.close(first)
    home.close(second)
    assert (home.pool.used, home.pool.owed, home.housing._attic.used) == (0, 0, 0)


def test_a_seat_that_is_closed_before_it_was_stored_leaves_nothing_behind():
    home = Home(4, 2.0)
    first, second = home.open((1, 2, 3)), home.open((4, 5, 6))
    home.write(first, tuple(range(14)))
    home.feed(second, tuple(range(20, 34)))
    home.begin()
    assert first.stored is not None
    home.close(first)
    home.end()
    assert home.housing._attic.used == 0


def test_what_never_was_stored_is_not_taken_for_zeros():
    """The Batch in which it was to be stored had failed before."""
    home, lost = Home(4, 2.0), Stored(1)
    with pytest.raises(AssertionError, match="never was"):
        home.housing._attic.restore(lost, home.runner, (0,))


class Large:
    """A Pager whose Pages are of a MiB."""

    def __init__(self) -> None:
        self.written = b""

    def copy_page(self, source: int, target: int) -> None:
        raise AssertionError("nothing is copied here")

    def read_pages(self, pages: Sequence[int]) -> memoryview:
        return memoryview(bytes(pages) * (1 << 20))

    def write_pages(self, pages: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        self.written = bytes(data)


@pytest.mark.parametrize("room", [1 << 20, 1 << 30], ids=["full disk", "disk"])
def test_where_the_disk_is_full_a_seat_stays_in_memory(room: int):
    attic, stored, pager = Attic(0), Stored(2), Large()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        attic.store(stored, pager, (3, 4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (stored.file is None) == (attic.used > 0) == (room == 1 << 20)
    attic.restore(stored, pager, (5, 6))
    assert attic.used == 0 and pager.written == bytes((3, 4)) * (1 << 20)


# Prefixes.


def test_a_prefix_is_found_up_to_the_last_page_before_the_last_token():
    home, prompt = Home(), tuple(range(8))
    home.write(home.open(prompt), prompt)
    assert home.open(prompt).done == 4, "one position has to be computed in any case"
    again = home.open((*prompt, 8))
    assert again.done == 8
    home.write(again, (8, 9))
    home.balance()


def test_a_prefix_outlives_its_seat_until_pages_are_short():
    home, prompt = Home(8), tuple(range(9))
    first = home.open(prompt)
    home.write(first, prompt)
    home.close(first)
    assert (home.pool.used, home.pool.cached) == (0, 2)
    second = home.open(prompt)
    assert second.done == 8
    home.close(second)
    other = home.open((7,) * 20)
    home.write(other, (7,) * 16)
    home.write(other, (7,) * 16)
    home.close(other)
    assert home.open(prompt).done == 0, "evicted"


def test_a_prefix_that_is_owed_to_others_is_not_found():
    home, prompt = Home(8), tuple(range(9))
    first = home.open(prompt)
    home.write(first, prompt)
    home.close(first)
    home.open((7,) * 20)  # all 8 Pages are promised
    with pytest.raises(Refused):
        home.open(prompt)
    home.balance()
    assert home.pool.cached == 2


def test_a_claim_of_another_client_finds_nothing():
    home, prompt = Home(), tuple(range(9))
    home.write(home.open(prompt, "one"), prompt)
    claims = home.known(prompt, "one")
    assert len(claims) == 2
    for client, found in (("other", 0), ("", 0), ("one", 8)):
        seat = home.open(prompt, client, claims=claims)
        assert seat.done == found
        home.close(seat)


@pytest.mark.parametrize("at", [0, 1])
def test_a_wrong_claim_ends_the_run(at: int):
    home, prompt = Home(), tuple(range(13))
    home.write(home.open(prompt), prompt)
    claims = list(home.known(prompt, "c"))
    claims[at] = bytes(16)
    seat = home.open(prompt, claims=tuple(claims))
    assert seat.done == at * PAGE
    home.write(seat, prompt[seat.done :])


def test_what_others_may_find_of_a_seat_that_drafts_is_what_was_certain():
    home = Home()
    seat = home.open((1, 2))
    home.write(seat, (1, 2))
    home.feed(seat, (3, 9, 9, 9, 9, 9), drafts=5)
    home.compute()
    assert not seat.digests
    home.feed(seat, (4,), at=3)
    home.compute()
    home.feed(seat, (5, 6, 7, 8))
    home.compute()
    assert len(seat.digests) == 2 and home.open((1, 2, 3, 4, 5, 6, 7, 8, 9)).done == 8


def test_a_fork_of_a_seat_whose_chain_is_broken_names_nothing():
    home = Home()
    seat = home.open((1, 2, 3, 4, 5, 6))
    home.write(seat, (1, 2, 3, 4, 5, 6))
    home.roll_back(seat, 2)
    home.write(seat, (7,) * 10)
    assert not seat.digests
    fork = home.fork(seat, 12)
    home.write(fork, (7,) * 4)
    assert not fork.digests
