from __future__ import annotations

import resource

import pytest

from peer.journals import Journals
from peer.seat import Seat
from proto.messages import Chunk, Hidden, Want, WireDType
from tests.support.seats import seat

ROW = 8  # bytes


def writer(keeps: bool = True) -> Seat:
    one = seat()
    one.outflow.turn(0, 0, 0, 16, keeps=keeps)
    return one


def give(one: Seat, count: int = 1) -> None:
    begin = one.outflow.end
    for position in range(begin, begin + count):
        data = position.to_bytes(ROW, "little")
        one.outflow.give(Chunk(position, position, 1, Want.TOKEN, hidden=Hidden(WireDType.F32, 1, 2, data)))
        one.outflow.take()


def rows(one: Seat) -> list[int]:
    """The positions that are kept, by what is in them."""
    held = one.outflow.rows
    data = held.take(held.first, held.end).data
    return [int.from_bytes(data[at : at + ROW], "little") for at in range(0, len(data), ROW)]


def test_it_is_time_to_settle_when_more_was_kept_than_the_memory_is_for():
    journals, one = Journals(10 * ROW, 1000), writer()
    assert [journals.kept(ROW) for _ in range(11)] == [False] * 10 + [True]
    give(one, 4)
    journals.settle([one])
    assert (journals.memory, journals.disk) == (4 * ROW, 0), "it had been given back meanwhile"
    assert [journals.kept(ROW) for _ in range(7)] == [False] * 6 + [True]


def test_the_longest_go_to_disk_first_until_a_quarter_is_free():
    journals, seats = Journals(20 * ROW, 1000 * ROW), [writer() for _ in range(3)]
    for one, count in zip(seats, (12, 4, 6), strict=True):
        give(one, count)
    journals.settle(seats)
    assert [one.outflow.rows.size // ROW for one in seats] == [1, 4, 6]
    assert [one.outflow.rows.spilled // ROW for one in seats] == [11, 0, 0]
    assert (journals.memory, journals.disk) == (11 * ROW, 11 * ROW)
    assert [rows(one) for one in seats] == [list(range(12)), list(range(4)), list(range(6))], "all of it can be read"


def test_what_is_past_the_disk_is_forgotten_but_for_the_last_piece():
    journals, seats = Journals(0, 10 * ROW), [writer(), writer()]
    for one, count in zip(seats, (9, 7), strict=True):
        give(one, count)
    journals.settle(seats)
    assert [rows(one) for one in seats] == [[8], list(range(7))]
    assert journals.disk == 6 * ROW <= 10 * ROW


def test_a_journal_that_cannot_be_spilled_any_more_is_shed():
    journals, one = Journals(0, 1000), writer()
    give(one, 5)
    journals.settle([one])
    journals.settle([one])
    assert rows(one)[-1] == 4 and one.outflow.kept_from(5) == one.outflow.rows.first


def test_where_the_disk_is_full_journals_are_shed_and_the_seats_go_on():
    journals, one = Journals(0, 1 << 30), writer()
    data = bytes(1 << 20)
    for position in range(4):
        one.outflow.give(Chunk(position, position, 1, Want.TOKEN, hidden=Hidden(WireDType.F32, 1, 1 << 18, data)))
        one.outflow.take()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, before[1]))
    try:
        journals.settle([one])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (one.outflow.rows.first, one.outflow.rows.end, one.outflow.rows.spilled) == (3, 4, 0)
    assert one.outflow.rows.take(3, 4).data == data


@pytest.mark.parametrize("memory", [3, 30])
@pytest.mark.parametrize("disk", [0, 5, 50])
def test_bounds_hold_after_every_settling(memory: int, disk: int):
    journals, seats = Journals(memory * ROW, disk * ROW), [writer() for _ in range(3)]
    for turn in range(60):
        give(seats[turn % 3])
        if journals.kept(ROW):
            journals.settle(seats)
            assert sum(one.outflow.rows.size for one in seats) <= max(memory, 3) * ROW
            assert sum(one.outflow.rows.spilled for one in seats) <= disk * ROW
        for one in seats:
            if one.outflow.rows:
                assert rows(one) == list(range(one.outflow.rows.first, one.outflow.rows.end))
