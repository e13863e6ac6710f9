"""What the first Hop is given, and when."""

from __future__ import annotations

from collections.abc import Sequence

from client.feed import Feed
from client.journal import Budget, Journal
from proto.messages import Chunk, Want
from proto.outflow import WINDOW


class Guesses:
    """Proposes what it was told to, and remembers what came of it."""

    def __init__(self, *proposals: tuple[int, ...]):
        self.proposals = list(proposals)
        self.seen: list[int] = []
        self.outcomes: list[tuple[int, int]] = []
        self.rooms: list[int | None] = []
        self.times: list[tuple[int, float]] = []

    def append(self, token_ids: Sequence[int]) -> None:
        self.seen += token_ids

    def propose(self, most: int | None = None) -> tuple[int, ...]:
        self.rooms.append(most)
        return self.proposals.pop(0)[:most] if self.proposals else ()

    def accepted(self, drafted: int, accepted: int) -> None:
        self.outcomes.append((drafted, accepted))

    def observe(self, rows: int, seconds: float) -> None:
        self.times.append((rows, seconds))


def feed_of(prompt: int, most: int = 100, limit: int = 4, drafter: Guesses | None = None) -> tuple[Feed, Journal]:
    journal = Journal(range(prompt), Budget(0))
    feed = Feed(journal, most, Want.TOKEN, drafter)
    feed.turn(0, limit)
    return feed, journal


def draw(feed: Feed, journal: Journal, token_id: int, stops: Sequence[int] = ()) -> None:
    journal.append(len(journal), token_id)
    feed.drawn(token_id, stops, 2.5)


def shown(chunks: Sequence[Chunk]) -> list[tuple[int, int, Want]]:
    return [(chunk.position, chunk.end, chunk.want) for chunk in chunks]


def test_a_prompt_goes_in_chunks_and_a_token_is_wanted_of_the_last():
    feed, _ = feed_of(10)
    chunks = feed.chunks(0.0)
    assert shown(chunks) == [(0, 4, Want.NOTHING), (4, 8, Want.NOTHING), (8, 10, Want.TOKEN)]
    assert [chunk.step for chunk in chunks] == [0, 1, 2]
    assert [chunk.token_ids for chunk in chunks] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert feed.chunks(0.0) == [], "nothing before the token came"


def test_only_a_few_chunks_are_under_way():
    feed, _ = feed_of(100)
    assert len(feed.chunks(0.0)) == WINDOW
    feed.answered(4)
    assert shown(feed.chunks(0.0)) == [(16, 20, Want.NOTHING)]
    feed.answered(12)
    assert len(feed.chunks(0.0)) == 2


def test_each_token_is_sent_when_it_is_known():
    feed, journal = feed_of(3)
    feed.chunks(0.0)
    for position in (3, 4, 5):
        draw(feed, journal, 7)
        assert shown(feed.chunks(0.0)) == [(position, position + 1, Want.TOKEN)]


def test_in_a_ring_the_last_hop_does_that_but_for_stop_tokens():
    feed, journal = feed_of(3)
    feed.autonomous = True
    feed.chunks(0.0)
    draw(feed, journal, 7, (9,))
    assert feed.chunks(0.0) == []
    draw(feed, journal, 9, (9,))
    assert shown(feed.chunks(0.0)) == [(4, 5, Want.TOKEN)]


def test_after_a_turn_it_goes_on_from_where_the_first_hop_is():
    feed, journal = feed_of(3)
    feed.chunks(0.0)
    draw(feed, journal, 7)
    feed.chunks(0.0)
    feed.turn(1, 2)
    assert shown(feed.chunks(0.0)) == [(1, 3, Want.NOTHING), (3, 4, Want.TOKEN)]


def test_drafts_follow_the_last_token_and_the_next_step_begins_at_the_first_wrong_one():
    drafter = Guesses((50, 51), (60, 61))
    feed, journal = feed_of(3, drafter=drafter, limit=10)
    (chunk,) = feed.chunks(0.0)
    assert (chunk.token_ids, chunk.drafts, chunk.count) == ((0, 1, 2, 50, 51), (50, 51), 5)
    draw(feed, journal, 50)
    assert feed.chunks(0.0) == [], "the first was right: another token comes of the same step"
    draw(feed, journal, 99)
    (chunk,) = feed.chunks(0.0)
    assert (chunk.position, chunk.token_ids, chunk.drafts) == (4, (99, 60, 61), (60, 61))
    assert drafter.outcomes == [(2, 1)] and drafter.seen == [50, 99]
    for token_id in (60, 61, 5):
        assert feed.chunks(0.0) == []
        draw(feed, journal, token_id)
    (chunk,) = feed.chunks(0.0)
    assert (chunk.position, chunk.token_ids) == (7, (5,)), "both were right, and one more was drawn"
    assert drafter.outcomes == [(2, 1), (2, 2)]
    assert drafter.times == [(3, 2.5), (3, 2.5)], "rows, and seconds from the sending to the last token"


def test_drafts_leave_room_for_the_token_after_them():
    """Of five positions the third is the last that can be a draft: what comes after it is the fifth."""
    drafter = Guesses((50,) * 9, (50,) * 9)
    feed, journal = feed_of(2, most=5, limit=10, drafter=drafter)
    (chunk,) = feed.chunks(0.0)
    assert drafter.rooms == [2] and chunk.end == 4
    draw(feed, journal, 1)
    (chunk,) = feed.chunks(0.0)
    assert chunk.end <= 4


def test_drafts_fit_the_chunk():
    drafter = Guesses((50,) * 9)
    feed, _ = feed_of(6, limit=4, drafter=drafter)
    first, second = feed.chunks(0.0)
    assert (first.count, first.drafts) == (4, ()) and (second.count, second.drafts) == (4, (50, 50))


def test_a_client_that_draws_itself_gets_the_last_position_alone():
    journal = Journal(range(6), Budget(0))
    feed = Feed(journal, 100, Want.HIDDEN)
    feed.turn(0, 10)
    assert shown(feed.chunks(0.0)) == [(0, 5, Want.NOTHING), (5, 6, Want.HIDDEN)]
