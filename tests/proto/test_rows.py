"""Rows are held against what they stand for: a list of rows, of which old ones are forgotten piece by piece."""

from __future__ import annotations

import os
import resource
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.messages import Hidden, WireDType
from proto.rows import Rows

COLS = 3
NUMBERS = st.integers(0, 40)
OTHERS = ["take", "trim", "cut", "spill"]
ACTS = st.lists(
    st.tuples(st.just("put"), st.integers(1, 6)) | st.tuples(st.sampled_from(OTHERS), NUMBERS),
    max_size=30,
)


def hidden(dtype: WireDType, rows: list[bytes]) -> Hidden:
    return Hidden(dtype, len(rows), COLS, b"".join(rows))


@given(ACTS, st.integers(0, 20), st.sampled_from(WireDType), st.data())
def test_they_are_a_list_of_rows_that_forgets_whole_pieces(
    acts: list[tuple[str, int]], first: int, dtype: WireDType, data: st.DataObject
):
    row_bytes, numbers = COLS * dtype.itemsize, count()
    rows, known, pieces = Rows(first), dict[int, bytes](), list[range]()
    end = first
    for act, number in acts:
        if act == "put":
            new = [next(numbers).to_bytes(row_bytes, "little") for _ in range(number)]
            rows.put(hidden(dtype, new))
            pieces.append(range(end, end + number))
            known.update(zip(pieces[-1], new, strict=True))
            end += number
        elif act == "trim":
            rows.trim(number)
            while len(pieces) > 1 and pieces[0].stop <= number:
                for position in pieces.pop(0):
                    del known[position]
        elif act == "cut":
            rows.cut(number)
            end = min(end, number)
            pieces = [piece[: max(0, end - piece.start)] for piece in pieces if piece.start < end]
            known = {position: row for position, row in known.items() if position < end}
        elif act == "spill":
            rows.spill()
            assert rows.size == row_bytes * (len(pieces[-1]) if pieces else 0), "all but the last piece"
        elif known:
            start = data.draw(st.sampled_from(sorted(known)))
            stop = data.draw(st.integers(start + 1, end))
            assert rows.take(start, stop) == hidden(dtype, [known[position] for position in range(start, stop)])
        assert (rows.first, rows.end) == (min(known, default=end), end)
        assert rows.size + rows.spilled == row_bytes * len(known)
    if known:
        assert rows.take(min(known), end) == hidden(dtype, [known[position] for position in sorted(known)])


@pytest.mark.parametrize(("start", "end"), [(3, 6), (5, 11), (7, 7), (8, 7)])
def test_rows_that_are_not_held_cannot_be_taken(start: int, end: int):
    rows = Rows(4)
    rows.put(hidden(WireDType.F32, [bytes(12)] * 6))
    with pytest.raises(AssertionError, match=f"{start}:{end} of 4:10"):
        rows.take(start, end)


def test_one_piece_is_handed_out_without_a_copy():
    rows, piece = Rows(), hidden(WireDType.BF16, [bytes(6)] * 2)
    rows.put(piece)
    rows.put(piece)
    assert rows.take(2, 4).data is piece.data


def test_what_was_spilled_and_forgotten_does_not_come_back():
    rows = Rows()
    for number in range(6):
        rows.put(hidden(WireDType.F32, [bytes([number]) * 12] * 2))
    rows.spill()
    assert (rows.size, rows.spilled) == (24, 120)
    rows.cut(5)
    rows.trim(2)
    assert (rows.size, rows.spilled) == (12, 24), "the piece that was cut is in memory again"
    rows.put(hidden(WireDType.F32, [bytes([9]) * 12] * 3))
    rows.spill()
    assert rows.take(2, 8).data == bytes([1]) * 24 + bytes([2]) * 12 + bytes([9]) * 36


def test_what_does_not_fit_the_disk_stays_in_memory_and_is_tried_again():
    rows, mib = Rows(), 1 << 20
    for number in range(4):
        rows.put(Hidden(WireDType.F32, 1, mib // 4, bytes([number]) * mib))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (mib + mib // 2, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            rows.spill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (rows.size, rows.spilled) == (3 * mib, mib)
    assert rows.take(0, 4).data == b"".join(bytes([number]) * mib for number in range(4))
    rows.spill()
    assert (rows.size, rows.spilled) == (mib, 3 * mib)
    assert rows.take(0, 4).data == b"".join(bytes([number]) * mib for number in range(4))


def test_the_disk_is_given_back_once_nothing_in_the_file_is_of_use():
    rows = Rows()
    for _ in range(2):
        for _ in range(6):
            rows.put(hidden(WireDType.F32, [bytes(12)] * 2))
        rows.spill()
        assert rows._file is not None and os.fstat(rows._file.fileno()).st_size == rows.spilled
        rows.trim(rows.end - 1)
        assert (rows.spilled, os.fstat(rows._file.fileno()).st_size) == (0, 0)
    rows.spill()
    rows.cut(0)
    assert os.fstat(rows._file.fileno()).st_size == 0
