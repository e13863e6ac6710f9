from __future__ import annotations

import pytest

from peer.pace import EXTRA, PLAIN_EVERY, UNKNOWN_TOKENS, Pace


def informed(decode_s: float = 1.0, prefill_s: float = 0.1) -> Pace:
    pace = Pace()
    pace.observe(1, 0, decode_s)
    pace.observe(0, 100, 100 * prefill_s)
    return pace


def test_before_anything_is_known_little_prefill_goes_along():
    assert Pace().beside(4) == UNKNOWN_TOKENS
    assert Pace().between(0.0) == (UNKNOWN_TOKENS, 0.0)


def test_prefill_takes_its_part_of_a_decode_batch():
    assert informed().beside(1) == int(EXTRA * 1.0 / 0.1)
    assert informed(prefill_s=5.0).beside(1) == 1, "however dear it is, it goes on"


def test_sizes_of_batches_are_kept_apart_and_the_nearest_answers_for_one_not_seen():
    pace = informed()
    pace.observe(16, 0, 3.0)
    assert [pace.decode_s(rows) for rows in (1, 2, 3, 16, 31, 200)] == [1.0, 1.0, 1.0, 3.0, 3.0, 3.0]


def test_every_so_often_a_batch_goes_without_prefill():
    pace = informed()
    for _ in range(PLAIN_EVERY):
        assert pace.beside(1) > 0
        pace.observe(1, 5, 1.5)
    assert pace.beside(1) == 0
    pace.observe(1, 0, 1.0)
    assert pace.beside(1) > 0


def test_where_a_decode_alone_was_never_seen_the_next_batch_shows_it():
    pace = Pace()
    pace.observe(4, 8, 2.0)
    assert pace.beside(4) == 0


def test_what_seems_cheap_is_tried_by_doubling():
    pace = Pace()
    pace.observe(1, 0, 1.0)
    sizes: list[int] = []
    for _ in range(4):
        sizes.append(pace.beside(1))
        pace.observe(1, sizes[-1], 1.0)
    assert sizes == [8, 16, 32, 64]


def test_short_gaps_count_at_once_and_long_ones_by_and_by():
    pace = Pace()
    for seconds, expected in ((8.0, 8.0), (2.0, 2.0), (6.0, 3.0)):
        pace.observe_gap(seconds)
        assert pace.gap_s == pytest.approx(expected)


def test_between_decodes_prefill_goes_where_it_fits_else_it_waits_and_not_for_ever():
    pace = informed()
    pace.observe_gap(4.0)
    assert pace.between(0.0) == (30, 0.0)
    count, wait_s = pace.between(3.0)
    assert (count, wait_s) == (0, 7.0)
    assert pace.between(3.0 + wait_s) == (5, 0.0)
