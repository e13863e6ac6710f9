from __future__ import annotations

from peer.patience import CALM, FIRST_PAUSE, HANDFUL, Patience

T = 2.0  # seconds of a decode Batch


def in_vain(patience: Patience, now: float) -> int:
    """Ask for small Batches until one has to wait, and let it wait in vain; returns how many went without."""
    for went in range(2000):
        wait_s = patience.wait_s(1, 4, T, now)
        if wait_s:
            assert patience.wait_s(1, 4, T, now + wait_s) == 0.0
            return went
    raise AssertionError("it never waits")


def test_a_batch_that_is_large_enough_does_not_wait():
    assert Patience().wait_s(4, 4, T, 0.0) == 0.0
    assert Patience().wait_s(1, 1.5, T, 0.0) == 0.0


def test_three_quarters_of_a_fair_share_are_enough():
    assert Patience().wait_s(6, 8, T, 0.0) == 0.0
    assert Patience().wait_s(5, 8, T, 0.0) > 0.0
    assert Patience().wait_s(1, 2, T, 0.0) > 0.0


def test_nobody_waits_before_it_is_known_how_long_a_batch_takes():
    assert Patience().wait_s(1, 4, None, 0.0) == 0.0


def test_a_wait_goes_on_until_its_time_is_up():
    patience = Patience()
    wait_s = patience.wait_s(1, 4, T, 10.0)
    assert 0 < patience.wait_s(2, 4, T, 11.0) == wait_s - 1.0
    assert patience.wait_s(2, 4, T, 10.0 + wait_s) == 0.0


def test_waits_in_vain_become_rare():
    patience = Patience()
    pauses = [in_vain(patience, 100.0 * index) for index in range(7)]
    assert pauses == [0, 0, FIRST_PAUSE, 0, 2 * FIRST_PAUSE, 0, 4 * FIRST_PAUSE]


def test_waits_that_succeed_again_and_again_become_rare_too():
    patience, waits = Patience(), 0
    for index in range(2 * HANDFUL):
        waits += patience.wait_s(1, 4, T, 10.0 * index) > 0
        patience.wait_s(4, 4, T, 10.0 * index + 1)
    assert waits == HANDFUL


def test_after_many_batches_that_were_large_enough_it_waits_again():
    patience = Patience()
    for index in range(4):
        in_vain(patience, 100.0 * index)
    assert patience.wait_s(1, 4, T, 1000.0) == 0.0
    for _ in range(CALM):
        patience.wait_s(4, 4, T, 1000.0)
    assert patience.wait_s(1, 4, T, 1000.0) > 0
