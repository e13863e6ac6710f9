"""An Outflow is held against what it stands for: the Seat behind has, in the end, the rows that were given, each in its
place, whatever broke and was turned in between.
"""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proto.messages import Chunk, Hidden, Want, WireDType
from proto.outflow import WINDOW, Outflow


def row(number: int) -> bytes:
    return number.to_bytes(4, "little")


def rows_of(chunk: Chunk) -> list[int]:
    assert chunk.hidden is not None and chunk.hidden.rows == chunk.count
    data = chunk.hidden.data
    return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]


def piece(position: int, numbers: list[int], step: int = 0, want: Want = Want.TOKEN, drafts: int = 0) -> Chunk:
    hidden = Hidden(WireDType.F32, len(numbers), 1, b"".join(map(row, numbers)))
    return Chunk(step, position, len(numbers), want, hidden=hidden, drafts=(7,) * drafts)


def plain(position: int, size: int, **more: int) -> Chunk:
    """Rows that are numbered by their positions."""
    return piece(position, list(range(position, position + size)), **more)  # type: ignore[arg-type]


def started(limit: int = 4, *, keeps: bool = True) -> Outflow:
    flow = Outflow(keeps=keeps)
    flow.turn(0, 0, 0, limit, keeps=keeps)
    return flow


def spans(chunks: list[Chunk]) -> list[tuple[int, int]]:
    return [(chunk.position, chunk.end) for chunk in chunks]


class Boundary(RuleBasedStateMachine):
    """``truth`` are the rows by position: what a Hop computes for a position, it computes again alike."""

    def __init__(self):
        super().__init__()
        self.flow = Outflow()
        self.truth: list[int] = []
        self.far: list[int] = []
        self.reentry = 0  # where the Seat behind lets the next Chunk begin, at the earliest
        self.limit = 1
        self.sent: list[int] = []  # ends of Chunks of several positions that are not answered
        self.kept_from = 0  # rows from here on must still be there
        self.numbers = count()

    @rule(size=st.integers(1, 9), drafts=st.integers(0, 3))
    def give(self, size: int, drafts: int):
        begin = self.flow.end
        while len(self.truth) < begin + size:
            self.truth.append(next(self.numbers))
        if not self.flow.keeps and self.flow.moving:
            self.kept_from = begin + size
        numbers = self.truth[begin : begin + size]
        if not self.flow.moving or self.flow.skip > begin:
            drafts = 0  # nobody drafts in the middle of a repair
        self.flow.give(piece(begin, numbers, drafts=min(drafts, size - 1)))
        self.deliver()

    @precondition(lambda self: self.sent)
    @rule(how_many=st.integers(1, 3))
    def answer(self, how_many: int):
        self.flow.answered(self.sent[:how_many][-1])
        del self.sent[:how_many]
        self.deliver()

    @rule(back=st.integers(0, 6))
    def cut(self, back: int):
        """Drafts were wrong: what is computed from there on is something else."""
        position = max(0, self.flow.end - back)
        self.flow.cut(position)
        if position < len(self.far):
            self.reentry = min(self.reentry, position)
        self.sent = [end for end in self.sent if end <= position]
        del self.truth[position:]
        self.kept_from = min(self.kept_from, position)

    @rule()
    def halt(self):
        self.flow.halt()
        self.sent.clear()

    @rule()
    def shed(self):
        before = self.flow.rows.size
        self.flow.shed()
        assert self.flow.rows.size <= before
        self.kept_from = max(self.kept_from, self.flow.kept_from(self.flow.end))

    @rule(back=st.integers(0, 12), far_back=st.integers(0, 12), limit=st.integers(1, 5), keeps=st.booleans())
    def turn(self, back: int, far_back: int, limit: int, keeps: bool):
        """A repair: this Seat goes back to a position, and the one behind has lost its end, or everything."""
        position = max(0, self.flow.end - back)
        agree = sum(1 for _ in iter(self._agreeing()))
        skip = max(0, agree - far_back)
        first = min(self.flow.kept_from(self.flow.end), position)
        if skip < first:
            if agree < first:
                return  # nobody can help here but who computes everything again
            skip = first
        if self.flow.kept_from(self.flow.end) >= position or not self.flow.keeps:
            self.kept_from = position
        del self.far[skip:]
        self.sent.clear()
        self.reentry, self.limit = skip, limit
        self.flow.turn(position, skip, 9, limit, keeps=keeps)
        if not keeps:
            self.kept_from = position
        self.deliver()

    @invariant()
    def kept_rows_are_the_rows_that_were_given(self):
        first, end = self.flow.kept_from(self.flow.end), self.flow.end
        if self.flow.keeps:
            assert first <= self.kept_from
        if first < end:
            hidden = self.flow.rows.take(first, end)
            assert hidden.data == b"".join(map(row, self.truth[first:end]))

    @invariant()
    def nothing_stays_behind(self):
        flow = self.flow
        if flow.moving and (not self.sent or not flow.keeps):
            assert flow.idle
        if flow.moving and flow.idle:
            assert self.far[: flow.end] == self.truth[: min(len(self.far), flow.end)]
            assert len(self.far) >= flow.end

    def _agreeing(self) -> list[int]:
        agreeing: list[int] = []
        for mine, theirs in zip(self.truth, self.far, strict=False):
            if mine != theirs:
                break
            agreeing.append(mine)
        return agreeing

    def deliver(self):
        chunks = self.flow.take()
        assert self.flow.moving or not chunks
        for chunk in chunks:
            assert chunk.count <= max(self.limit, len(chunk.drafts) + 1)
            assert self.reentry <= chunk.position <= len(self.far), f"{spans([chunk])} came at {len(self.far)}"
            self.far[chunk.position :] = rows_of(chunk)
            self.reentry = len(self.far)
            if chunk.count > 1:
                self.sent.append(chunk.end)
        assert not self.flow.keeps or len(self.sent) <= WINDOW


TestBoundary = Boundary.TestCase
TestBoundary.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_nothing_leaves_before_it_is_said_where_it_goes():
    flow = Outflow()
    flow.give(plain(0, 3))
    assert flow.take() == [] and not flow.idle
    flow.turn(3, 0, 0, 8, keeps=True)
    assert flow.take() == [plain(0, 3)] and flow.idle


def test_only_so_many_chunks_of_several_positions_are_under_way_and_single_ones_do_not_count():
    flow = started(limit=2)
    flow.give(plain(0, 12))
    flow.give(plain(12, 1))
    assert spans(flow.take()) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    flow.answered(3)
    assert spans(flow.take()) == [(8, 10)]
    flow.answered(8)
    assert spans(flow.take()) == [(10, 12), (12, 13)]
    for position in range(13, 30):
        flow.give(plain(position, 1))
    assert len(flow.take()) == 17


def test_of_a_chunk_that_is_split_only_the_last_part_wants_and_all_parts_are_of_its_step():
    flow = started(limit=2)
    flow.give(plain(0, 5, step=7))
    assert [(chunk.step, chunk.want) for chunk in flow.take()] == [
        (7, Want.NOTHING),
        (7, Want.NOTHING),
        (7, Want.TOKEN),
    ]


def test_a_seat_that_begins_again_gets_the_same_rows_of_which_nothing_is_wanted():
    flow = started()
    for position in range(6):
        flow.give(plain(position, 1))
    flow.take()
    flow.halt()
    assert flow.kept_from(6) == 0
    flow.turn(6, 2, 11, 3, keeps=True)
    flow.give(plain(6, 1, step=12))
    assert flow.take() == [
        plain(2, 3, step=11, want=Want.NOTHING), plain(5, 1, step=11, want=Want.NOTHING), plain(6, 1, step=12)
    ]  # fmt: skip


def test_what_waited_when_the_seat_behind_broke_is_sent_from_the_rows_once():
    flow = started(limit=1)
    flow.halt()
    flow.give(plain(0, 2))
    flow.give(plain(2, 2))
    flow.turn(4, 0, 3, 8, keeps=True)
    assert spans(flow.take()) == [(0, 2), (2, 4)]
    assert flow.take() == []


def test_a_new_hop_computes_for_nobody_what_the_seat_behind_has_already():
    flow = Outflow()
    flow.turn(0, 5, 0, 8, keeps=True)
    flow.give(plain(0, 3))
    flow.give(plain(3, 4))
    assert flow.take() == [plain(5, 2)]
    assert flow.kept_from(7) == 0


def test_without_keeping_everything_goes_at_once_and_nothing_is_held():
    flow = started(limit=2, keeps=False)
    flow.give(plain(0, 20))
    assert len(flow.take()) == 10
    assert (flow.rows.size, flow.kept_from(20)) == (0, 20)


def test_what_is_shed_is_what_nothing_waits_for_but_the_last_piece():
    flow = started()
    for position in range(0, 6, 2):
        flow.give(plain(position, 2))
    flow.take()
    flow.shed()
    assert flow.kept_from(6) == 4
    flow.turn(6, 4, 0, 1, keeps=True)
    flow.shed()
    assert spans(flow.take()) == [(4, 5), (5, 6)]


def test_drafts_that_were_wrong_are_not_sent_any_more_and_do_not_hold_the_window():
    flow = started(limit=8)
    for position in range(0, 20, 4):
        flow.give(plain(position, 4, drafts=3))
    assert len(flow.take()) == WINDOW
    flow.cut(18)
    flow.cut(5)
    assert flow.idle
    for position in (5, 9, 13):
        flow.give(plain(position, 4))
    assert spans(flow.take()) == [(5, 9), (9, 13), (13, 17)]


def test_what_is_cut_short_within_its_drafts_has_none_left_and_wants_nothing():
    flow = Outflow()
    flow.give(plain(0, 5, drafts=3))
    flow.cut(3)
    flow.turn(3, 0, 0, 8, keeps=True)
    assert flow.take() == [plain(0, 3, want=Want.NOTHING)]


def test_more_drafts_than_the_seat_behind_takes_are_its_business():
    """A stranger's Path says how much that is, so nothing here may fail over it."""
    flow = started(limit=2)
    flow.give(plain(0, 6, drafts=4))
    assert spans(flow.take()) == [(0, 1), (1, 6)]


def test_rows_have_no_gaps():
    flow = started()
    with pytest.raises(AssertionError, match="rows from 1, not 0"):
        flow.give(plain(1, 1))


def test_what_is_cut_is_not_sent_again_either():
    flow = started(limit=2)
    for position in range(0, 16, 2):
        flow.give(plain(position, 2))
    flow.halt()
    flow.turn(16, 0, 0, 2, keeps=True)
    assert spans(flow.take()) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    flow.cut(11)
    flow.answered(8)
    assert spans(flow.take()) == [(8, 10), (10, 11)]


def test_without_keeping_what_could_not_leave_is_kept_until_it_can():
    flow = started(keeps=False)
    flow.halt()
    flow.give(plain(0, 4))
    flow.halt()
    assert flow.kept_from(4) == 0
    flow.turn(4, 1, 0, 8, keeps=False)
    assert flow.take() == [plain(1, 3, want=Want.NOTHING)]
    assert flow.kept_from(4) == 4


def test_after_a_cut_the_seat_behind_has_nothing_past_it():
    flow = Outflow()
    flow.turn(0, 5, 0, 8, keeps=True)
    flow.give(plain(0, 4))
    flow.cut(2)
    flow.give(plain(2, 4))
    assert flow.take() == [plain(2, 4)]


def test_rows_that_do_not_lead_up_to_a_position_are_of_no_use_there():
    flow = started()
    flow.give(plain(0, 4))
    assert [flow.kept_from(position) for position in (3, 4, 5)] == [3, 0, 5]
