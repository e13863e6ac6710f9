from __future__ import annotations

import pytest

from benchmarks.kit.workers import Worker, WorkerFailed

PARROT = "tests.support.parrot_worker"


def test_a_worker_answers_one_question_after_another_whatever_its_libraries_print():
    with Worker(PARROT, "a", "b") as worker:
        assert worker.ask("say", words="hello") == "hello"
        assert worker.ask("arguments") == ["a", "b"]


def test_a_worker_that_falls_leaves_its_last_words():
    with Worker(PARROT) as worker:
        with pytest.raises(WorkerFailed, match=r"parrot_worker has ended: .*out of memory"):
            worker.ask("fall", words="out of memory")
        with pytest.raises(WorkerFailed, match="has ended"):
            worker.ask("say", words="hello")


def test_a_worker_that_is_killed_fails_whoever_asks_and_one_that_may_leave_ends_well():
    with Worker(PARROT) as worker:
        worker.kill()
        with pytest.raises(WorkerFailed, match="has ended"):
            worker.ask("say", words="hello")
    with Worker(PARROT) as worker:
        assert worker.ask("say", words="hello") == "hello"
        assert worker.leave() == 0
