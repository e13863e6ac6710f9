from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.grouping import Grouping
from peer.scheduler import Batch, Scheduler
from proto.messages import Chunk, Want
from tests.support.seats import tokens


def scheduler(prefill_tokens: int = 10, max_decodes: int = 8) -> Scheduler[str]:
    return Scheduler(prefill_tokens=prefill_tokens, max_decodes=max_decodes)


class InGroups(Grouping):
    """Has made up its mind."""

    def grouped(self, sessions: int, *, prefill_waits: bool = False) -> bool:
        return True


def in_groups() -> Scheduler[str]:
    return Scheduler(prefill_tokens=10, max_decodes=8, grouping=InGroups())


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


def parts(batch: Batch[str] | None) -> list[tuple[str, int, int]]:
    assert batch is not None
    return [(work.seat, work.chunk.position, work.chunk.count) for work in batch.works]


def test_prefill_is_split_to_fit_and_its_rest_is_next():
    s = scheduler(prefill_tokens=10)
    for name, count in (("a", 6), ("b", 14), ("c", 2)):
        s.add(name, tokens(0, 0, count))
    assert parts(s.next_batch()) == [("a", 0, 6), ("b", 0, 4)]
    assert parts(s.next_batch()) == [("b", 4, 10)]
    assert parts(s.next_batch()) == [("c", 0, 2)]
    assert s.next_batch() is None


def test_only_the_last_part_of_a_prompt_wants_its_token():
    s = scheduler(prefill_tokens=10)
    s.add("a", tokens(0, 0, 16))
    wants = [work.chunk.want for _ in range(2) for work in s.next_batch().works]  # type: ignore[union-attr]
    assert wants == [Want.NOTHING, Want.TOKEN]


def test_drafts_stay_with_the_position_they_follow():
    s = scheduler(prefill_tokens=10)
    s.add("a", Chunk(0, 0, 12, Want.TOKEN, token_ids=tuple(range(12)), drafts=(9, 10, 11)))
    assert parts(s.next_batch()) == [("a", 0, 8)]
    s.add("b", tokens(0, 0, 2))
    assert parts(s.next_batch()) == [("a", 8, 4), ("b", 0, 2)], "one certain position and its drafts are a decode"


def test_one_position_of_which_nothing_is_wanted_is_prefill():
    s = scheduler()
    s.add("rest", tokens(0, 9, 1, Want.NOTHING))
    s.add("step", tokens(0, 0))
    assert names(s.next_batch()) == ["step", "rest"]


def test_clients_share_the_prefill_whatever_number_of_seats_they_have():
    s = scheduler(prefill_tokens=64)
    for index in range(30):
        s.add(f"many{index}", tokens(0, 0, 256, Want.NOTHING), "many")
    s.add("one", tokens(0, 0, 256, Want.NOTHING), "one")
    had = {"many": 0, "one": 0}
    for _ in range(8):
        for seat, _, count in parts(s.next_batch()):
            had[seat.rstrip("0123456789")] += count
    assert had == {"many": 256, "one": 256}


def test_a_client_that_was_idle_has_saved_nothing():
    s = scheduler(prefill_tokens=64)
    s.add("late", tokens(0, 0, 2, Want.NOTHING), "late")
    s.add("busy", tokens(0, 0, 256, Want.NOTHING), "busy")
    s.next_batch()
    for step in range(1, 20):
        s.add("busy", tokens(step, 0, 64, Want.NOTHING), "busy")
        s.next_batch()
    s.add("late", tokens(1, 2, 256, Want.NOTHING), "late")
    assert sorted(parts(s.next_batch()))[1][2] == 32, "half of the Batch, not all of it"


def test_clients_share_the_decodes_where_not_all_fit():
    s = scheduler(max_decodes=2)
    for index in range(30):
        s.add(f"many{index}", tokens(0, 0), "many")
    for step in range(5):
        s.add("one", tokens(step, step), "one")
        assert "one" in names(s.next_batch())


def test_a_client_pays_for_its_drafts_by_the_row():
    s = scheduler(max_decodes=1)
    drafted, plain = 0, 0
    for step in range(25):
        for name, extra in (("guesses", 3), ("plain", 0)):
            s.discard(name)
            ids = tuple(range(1 + extra))
            s.add(name, Chunk(step, step, 1 + extra, Want.TOKEN, token_ids=ids, drafts=ids[1:]), name)
        (chosen,) = names(s.next_batch())
        drafted, plain = drafted + (chosen == "guesses"), plain + (chosen == "plain")
    assert (drafted, plain) == (5, 20)


def test_a_group_is_the_share_of_one_hop_and_one_that_merged_is_split():
    s = in_groups()
    for name in "abcdef":
        s.add(name, tokens(0, 0), num_hops=3)
    assert [len(names(s.next_batch())) for _ in range(3)] == [2, 2, 2]
    s.add("g", tokens(0, 0), num_hops=3)
    assert names(s.next_batch()) == ["g"]


def test_a_long_route_lessens_nobodys_share_but_its_own():
    s = scheduler()
    s.add("stranger", tokens(0, 0), num_hops=4096)
    for name in "abc":
        s.add(name, tokens(0, 0))
    assert len(names(s.next_batch())) == 4


def test_what_is_ready_goes_together_where_this_hop_is_not_the_first():
    s = in_groups()
    for name in "abcdef":
        s.add(name, tokens(0, 0), num_hops=3, leads=False)
    assert len(names(s.next_batch())) == 6


def test_a_group_that_begins_here_goes_beside_whatever_else_is_ready():
    s = in_groups()
    for name in "abcd":
        s.add(name, tokens(0, 0), num_hops=2)
    for name in "xyz":
        s.add(name, tokens(0, 0), num_hops=2, leads=False)
    assert sorted(names(s.next_batch())) == ["a", "b", "x", "y", "z"]
    assert names(s.next_batch()) == ["c", "d"]


def test_sessions_that_ended_in_silence_do_not_hold_the_cap_for_long():
    s = in_groups()
    for name in "abcdef":
        s.add(name, tokens(0, 0), num_hops=2)
    for _ in range(2):
        s.next_batch()
    sizes: list[int] = []
    for step in range(1, 9):
        for name in "ab":
            s.discard(name)
            s.add(name, tokens(step, step), num_hops=2)
        sizes.append(len(names(s.next_batch())))
    assert sizes[-1] == 1


def test_what_cannot_be_computed_yet_comes_first_again():
    s = scheduler()
    s.add("a", tokens(0, 0, 4))
    s.add("a", tokens(1, 4))
    batch = s.next_batch()
    assert batch is not None and s.queue_tokens == 1
    s.put_back(batch.works[0])
    assert s.queue_tokens == 5
    assert [parts(s.next_batch()) for _ in range(2)] == [[("a", 0, 4)], [("a", 4, 1)]]


def informed(prefill_tokens: int = 256) -> Scheduler[str]:
    """Knows that a decode takes 1, a prefill token 0.1, and that decodes come back after 4."""
    s = scheduler(prefill_tokens)
    s.add("p", tokens(0, 0, 100, Want.NOTHING))
    s.observe(s.next_batch(), 10.0)  # type: ignore[arg-type]
    for step in range(3):
        s.add("a", tokens(step, step), now=5.0 * step)
        s.observe(s.next_batch(5.0 * step), 1.0)  # type: ignore[arg-type]
    return s


def test_prefill_beside_decodes_lengthens_the_batch_by_half():
    s = informed()
    s.add("a", tokens(9, 9), now=15.0)
    s.add("p", tokens(0, 0, 200), now=15.0)
    assert parts(s.next_batch(15.0)) == [("a", 9, 1), ("p", 0, 5)]


def test_prefill_that_gets_dearer_gets_smaller_at_once():
    s = informed()
    s.add("p", tokens(0, 0, 200), now=15.0)
    for step, expected in ((3, 5), (4, 2)):
        s.add("a", tokens(step, step), now=5.0 * step)
        batch = s.next_batch(5.0 * step)
        assert parts(batch)[1][2] == expected
        s.observe(batch, 3.0)  # type: ignore[arg-type]


def test_prefill_fills_the_time_while_the_decodes_are_away_but_no_more():
    s = informed()
    s.add("p", tokens(0, 0, 200), now=11.0)
    ((_, _, count),) = parts(s.next_batch(11.0))
    assert 1.0 + 0.1 * count <= 4.0


def test_prefill_waits_for_decodes_that_are_due_but_not_for_ever():
    s = informed()
    s.add("p", tokens(0, 0, 200), now=14.5)
    assert s.next_batch(14.5) is None
    wait_s = s.look_again_s
    assert wait_s is not None and 0 < wait_s <= 2 * (4.0 + 1.0)
    assert parts(s.next_batch(14.5 + wait_s)) == [("p", 0, 5)]
    assert s.look_again_s is None


def test_a_session_far_away_is_not_forgotten_while_prefill_fills_the_time():
    s = informed()
    for step in range(3, 8):
        s.add("a", tokens(step, step), now=100.0 * step)
        s.observe(s.next_batch(100.0 * step), 1.0)  # type: ignore[arg-type]
    for step in range(20):
        s.add("p", tokens(step, 0, 2, Want.NOTHING), now=702.0 + step)
        s.observe(s.next_batch(702.0 + step), 0.2)  # type: ignore[arg-type]
    s.add("p", tokens(20, 0, 200), now=795.0)
    assert s.next_batch(795.0) is None, "it is due"


def test_when_the_last_session_has_left_prefill_has_all():
    s = informed()
    s.add("p", tokens(0, 0, 200), now=14.5)
    s.discard("a")
    assert parts(s.next_batch(14.5)) == [("p", 0, 200)]


def test_a_session_that_left_in_silence_is_forgotten_in_time():
    s = informed()
    s.add("p", tokens(0, 0, 256), now=11.0)
    now, counts = 11.0, list[int]()
    for step in range(40):
        s.add("p", tokens(step, 0, 256, Want.NOTHING), now=now)
        batch = s.next_batch(now)
        if batch is None:
            now += s.look_again_s  # type: ignore[operator]
            continue
        counts.append(batch.num_tokens)
        s.observe(batch, 0.1 * batch.num_tokens)
        now += 0.1 * batch.num_tokens
    assert counts[-1] == 256


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
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 14), st.integers(1, 3)), max_size=40),
    st.integers(1, 12),
    st.integers(1, 3),
    st.lists(st.tuples(st.booleans(), st.floats(0.01, 5)), max_size=40),
)
def test_everything_added_is_computed_once_in_order_and_within_bounds(
    arrivals: list[tuple[int, int, int]], prefill_tokens: int, max_decodes: int, compute: list[tuple[bool, float]]
):
    s: Scheduler[int] = Scheduler(prefill_tokens=prefill_tokens, max_decodes=max_decodes)
    added: dict[int, list[tuple[int, int]]] = {}
    computed: dict[int, list[tuple[int, int]]] = {}
    now = 0.0

    def run(seconds: float) -> bool:
        nonlocal now
        batch = s.next_batch(now)
        if batch is None:
            if s.look_again_s is None:
                return False
            now += s.look_again_s
            return True
        seats = [work.seat for work in batch.works]
        assert len(set(seats)) == len(seats)
        kinds = [work.chunk.count > 1 or work.chunk.want is Want.NOTHING for work in batch.works]
        assert kinds == sorted(kinds), "decodes first"
        assert kinds.count(False) <= max_decodes
        assert sum(work.chunk.count for work in batch.works if work.chunk.count > 1) <= prefill_tokens
        for work in batch.works:
            for position in range(work.chunk.position, work.chunk.end):
                computed.setdefault(work.seat, []).append((work.chunk.step, position))
        now += seconds
        s.observe(batch, seconds)
        return True

    for step, (seat, count, hops) in enumerate(arrivals):
        s.add(seat, tokens(step, 0, count), str(seat % 2), hops, now)
        added.setdefault(seat, []).extend((step, position) for position in range(count))
        if step < len(compute) and compute[step][0]:
            run(compute[step][1])
    rounds = 0
    while run(1.0):
        rounds += 1
        assert rounds <= 2000
    assert computed == added
    assert (s.queue_tokens, len(s)) == (0, 0)


def test_a_chunk_that_is_all_drafts_but_one_is_never_split():
    """Nothing of it can go before its drafts: it goes whole, whatever the budget."""
    books = scheduler(prefill_tokens=6)
    books.add("a", Chunk(0, 0, 5, Want.NOTHING, token_ids=(1,) * 5))
    books.add("b", Chunk(0, 0, 5, Want.NOTHING, token_ids=(1,) * 5, drafts=(1,) * 4))
    taken: list[int] = []
    while (batch := books.next_batch()) is not None:
        taken += [work.chunk.count for work in batch.works]
    assert sum(taken) == 10
