from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import UsageError
from swarm.span import Span, uncovered

spans = st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda t: Span(t[0], t[0] + t[1]))


@pytest.mark.parametrize(("start", "end"), [(3, 3), (4, 3), (-1, 2)])
def test_an_empty_or_negative_span_is_refused(start: int, end: int):
    with pytest.raises(UsageError, match="start < end"):
        Span(start, end)


def test_a_span_is_half_open():
    span = Span(2, 5)
    assert list(span) == [2, 3, 4]
    assert len(span) == 3
    assert 2 in span and 4 in span and 5 not in span


def test_what_a_user_writes_is_read_and_what_is_printed_can_be_read_again():
    assert Span.parse(" 0:20 ") == Span(0, 20)
    assert Span.parse(str(Span(8, 16))) == Span(8, 16)


@pytest.mark.parametrize("text", ["", "5", "0-20", "a:b", ":4", "4:", "-1:3", "0:1:2", "0:99999999999999", "1.0:2"])
def test_what_is_not_a_span_is_refused_with_an_example(text: str):
    with pytest.raises(UsageError, match="0:20"):
        Span.parse(text)


@given(spans, spans)
def test_covers_agrees_with_sets_of_blocks(left: Span, right: Span):
    assert left.covers(right) == (set(right) <= set(left))


@given(spans, st.lists(spans, max_size=6))
def test_uncovered_names_exactly_the_blocks_that_nobody_touches(total: Span, others: list[Span]):
    gaps = uncovered(total, others)
    assert {b for gap in gaps for b in gap} == set(total) - {b for span in others for b in span}
    assert all(left.end < right.start for left, right in itertools.pairwise(gaps)), "ascending and apart"
