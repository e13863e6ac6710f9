from __future__ import annotations

import random

from benchmarks.kit.ledger import Job, Ledger, Life, draw_jobs, draw_orders

JOB = Job([1, 2], 4, {}, oracle=(7, 8, 9, 10))


def test_a_finished_text_has_to_be_the_oracle_and_one_that_was_left_its_beginning():
    ledger = Ledger()
    ledger.enter(JOB, {"token_ids": [7, 8, 9, 10]})
    ledger.enter(JOB, {"left": [7, 8]})
    assert ledger.counts == {"finished": 1, "left": 1} and not ledger.complaints
    ledger.enter(JOB, {"token_ids": [7, 8, 9]})
    ledger.enter(JOB, {"left": [8]})
    ledger.enter(JOB, {"error": "NoRoute: blocks 0:8 are missing"})
    assert (ledger.counts["wrong"], ledger.counts["failed"], len(ledger.complaints)) == (2, 1, 3)


def test_growth_counts_only_those_who_lived_long_enough():
    ledger = Ledger(
        lives=[Life(1, [5, 7], [1.0] * 3 + [2.0] * 6), Life(2, [5], [1.0, 9.0]), Life(3, [9, 8], [1.0] * 9)]
    )
    assert ledger.memory_growth(9) == 1.0
    assert ledger.handles_more() == 2
    assert Ledger().memory_growth(9) == 1.0 and Ledger().handles_more() == 0


def test_jobs_and_orders_are_drawn_from_the_seed():
    jobs = draw_jobs(random.Random(1), 4096, 8)
    assert jobs == draw_jobs(random.Random(1), 4096, 8) != draw_jobs(random.Random(2), 4096, 8)
    assert any(job.options for job in jobs) and not all(job.options for job in jobs)
    chosen, orders = draw_orders(random.Random(3), jobs)
    assert [order["prompt"] for order in orders] == [job.prompt for job in chosen]
    assert all(order["leave_after"] is None or order["leave_after"] <= order["tokens"] for order in orders)
