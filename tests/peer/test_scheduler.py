from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.scheduler import Batch, Scheduler
from proto.messages import Chunk, Want
from tests.support.seats import tokens


def scheduler(prefill_tokens: int = 10, max_decodes: int = 8) -> Scheduler[str]:
    return Scheduler(prefill_tokens=prefill_tokens, max_decodes=max_decodes)


def names(batch: Batch[str] | None) -> list[str]:
    assert batch is not None
    return [work.seat for work in batch.works]


def test_nothing_ready_is_no_batch():
    assert scheduler().next_batch() is None


def test_decodes_come_before_prefill_that_came_first():
    s = scheduler()
    s.add("long", tokens(0, 0, 6))
    s.add("a", tokens(0, 0))
    s.add("b", tokens(0, 0))
    assert names(s.next_batch()) == ["a", "b", "long"]
    assert s.next_batch() is None


def test_prefill_is_taken_in_order_up_to_the_budget():
    s = scheduler(prefill_tokens=10)
    for name, count in (("a", 6), ("b", 4), ("c", 2)):
        s.add(name, tokens(0, 0, count))
    assert names(s.next_batch()) == ["a", "b"]
    assert names(s.next_batch()) == ["c"]


def test_a_small_prefill_does_not_overtake_one_that_did_not_fit():
    s = scheduler(prefill_tokens=10)
    for name, count in (("a", 6), ("b", 5), ("c", 2)):
        s.add(name, tokens(0, 0, count))
    assert names(s.next_batch()) == ["a"]
    assert names(s.next_batch()) == ["b", "c"]


def test_a_chunk_larger_than_the_budget_is_the_only_prefill_of_its_batch():
    s = scheduler(prefill_tokens=10)
    s.add("huge", tokens(0, 0, 16))
    s.add("small", tokens(0, 0, 2))
    s.add("step", tokens(0, 0))
    assert names(s.next_batch()) == ["step", "huge"]
    assert names(s.next_batch()) == ["small"]


def test_endless_decodes_do_not_starve_a_prefill():
    s = scheduler(prefill_tokens=10)
    s.add("long", tokens(0, 0, 10))
    for name in "abcdefgh":
        s.add(name, tokens(0, 0))
    assert "long" in names(s.next_batch())


def test_more_decodes_than_a_batch_may_have_take_turns():
    s = scheduler(max_decodes=2)
    for step in range(3):
        for name in "abc":
            s.add(name, tokens(step, step))
    assert [names(s.next_batch()) for _ in range(5)] == [["a", "b"], ["c", "a"], ["b", "c"], ["a", "b"], ["c"]]


def test_a_seat_is_in_a_batch_once_and_its_chunks_stay_in_order():
    s = scheduler(prefill_tokens=100)
    s.add("a", tokens(0, 0, 4, Want.NOTHING))
    s.add("a", tokens(1, 4, 1))
    s.add("b", tokens(0, 0, 4))
    first, second = s.next_batch(), s.next_batch()
    assert names(first) == ["a", "b"]
    assert first is not None and first.works[0].chunk.step == 0 and first.num_tokens == 8
    assert names(second) == ["a"]
    assert second is not None and second.works[0].chunk.step == 1


def test_a_discarded_seat_leaves_nothing_behind():
    s = scheduler()
    s.add("a", tokens(0, 0, 4))
    s.add("a", tokens(1, 4))
    s.add("b", tokens(0, 0))
    s.discard("a")
    s.discard("never seen")
    assert (s.queue_tokens, len(s)) == (1, 1)
    assert names(s.next_batch()) == ["b"]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 14)), max_size=40),
    st.integers(1, 12),
    st.integers(1, 3),
    st.lists(st.booleans(), max_size=40),
)
def test_everything_added_is_computed_once_in_order_and_within_bounds(
    arrivals: list[tuple[int, int]], prefill_tokens: int, max_decodes: int, compute: list[bool]
):
    s: Scheduler[int] = Scheduler(prefill_tokens=prefill_tokens, max_decodes=max_decodes)
    added: dict[int, list[Chunk]] = {}
    computed: dict[int, list[Chunk]] = {}

    def run() -> bool:
        batch = s.next_batch()
        if batch is None:
            return False
        seats = [work.seat for work in batch.works]
        assert len(set(seats)) == len(seats)
        kinds = [work.chunk.count > 1 for work in batch.works]
        assert kinds == sorted(kinds), "decodes first"
        assert kinds.count(False) <= max_decodes
        prefill = [work.chunk.count for work in batch.works if work.chunk.count > 1]
        assert sum(prefill) <= prefill_tokens or len(prefill) == 1
        for work in batch.works:
            computed.setdefault(work.seat, []).append(work.chunk)
        return True

    for step, (seat, count) in enumerate(arrivals):
        chunk = tokens(step, 0, count)
        s.add(seat, chunk)
        added.setdefault(seat, []).append(chunk)
        if step < len(compute) and compute[step]:
            run()
    rounds = 0
    while run():
        rounds += 1
    assert rounds <= len(arrivals)
    assert computed == added
    assert s.queue_tokens == 0
