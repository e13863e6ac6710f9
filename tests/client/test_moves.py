"""Which Chunk goes where next: prefill, decoding and replay as one rule."""

from __future__ import annotations

from dataclasses import dataclass

from client.journal import Budget, Journal
from client.moves import Move, gaps, next_move
from proto.messages import Hidden, Want, WireDType
from swarm.span import Span

MODEL = Span(0, 6)


@dataclass
class Seat:
    span: Span
    position: int = 0
    max_chunk_tokens: int = 4


def rows(count: int) -> Hidden:
    return Hidden(WireDType.F32, count, 1, bytes(4 * count))


def play(seats: list[Seat], journal: Journal, moves: int) -> list[tuple[int, int, int, str]]:
    """Carry out some Moves as obedient Hops would."""
    done: list[tuple[int, int, int, str]] = []
    for _ in range(moves):
        move = next_move(seats, journal)
        done.append((move.place, move.position, move.count, move.want.name))
        seats[move.place].position = move.end
        if move.want is Want.HIDDEN:
            journal.put(seats[move.place].span.end, move.position, rows(move.count))
        if move.want is Want.TOKEN:
            journal.append(move.end, 7)
        journal.shed((s.span.start, s.position) for s in seats)
    return done


def test_prefill_goes_chunk_by_chunk_through_all_hops_and_only_the_last_chunk_wants_a_token():
    seats = [Seat(Span(0, 2)), Seat(Span(2, 6))]
    assert play(seats, Journal(range(10), Budget(1 << 20)), 8) == [
        (0, 0, 4, "HIDDEN"), (1, 0, 4, "NOTHING"),
        (0, 4, 4, "HIDDEN"), (1, 4, 4, "NOTHING"),
        (0, 8, 2, "HIDDEN"), (1, 8, 2, "TOKEN"),
        (0, 10, 1, "HIDDEN"), (1, 10, 1, "TOKEN"),
    ]  # fmt: skip


def test_a_single_hop_fills_its_cache_and_draws():
    assert play([Seat(MODEL)], Journal(range(6), Budget(0)), 3) == [
        (0, 0, 4, "NOTHING"),
        (0, 4, 2, "TOKEN"),
        (0, 6, 1, "TOKEN"),
    ]


def test_hops_with_different_chunk_sizes_still_meet():
    seats = [Seat(Span(0, 2), max_chunk_tokens=4), Seat(Span(2, 6), max_chunk_tokens=3)]
    assert play(seats, Journal(range(8), Budget(0)), 6) == [
        (0, 0, 4, "HIDDEN"), (1, 0, 3, "NOTHING"), (1, 3, 1, "NOTHING"),
        (0, 4, 4, "HIDDEN"), (1, 4, 3, "NOTHING"), (1, 7, 1, "TOKEN"),
    ]  # fmt: skip


def test_a_replacement_is_filled_from_the_journal_and_nobody_else_moves():
    seats = [Seat(Span(0, 2)), Seat(Span(2, 4)), Seat(Span(4, 6))]
    journal = Journal(range(6), Budget(1 << 20))
    play(seats, journal, 6)
    play(seats, journal, 1)  # hop 0 took position 6, then hop 1 is lost
    seats[1] = Seat(Span(2, 4))
    assert play(seats, journal, 3) == [(1, 0, 4, "NOTHING"), (1, 4, 2, "NOTHING"), (1, 6, 1, "HIDDEN")]
    assert play(seats, journal, 1) == [(2, 6, 1, "TOKEN")]


def test_a_replacement_of_the_first_hop_catches_up_without_troubling_the_second():
    seats = [Seat(Span(0, 2)), Seat(Span(2, 6))]
    journal = Journal(range(3), Budget(1 << 20))
    play(seats, journal, 4)
    seats[0] = Seat(Span(0, 2))
    assert play(seats, journal, 3) == [(0, 0, 4, "NOTHING"), (0, 4, 1, "HIDDEN"), (1, 4, 1, "TOKEN")]


def test_two_replacements_in_a_row_take_turns_so_that_little_is_held_between_them():
    seats = [Seat(Span(0, 2)), Seat(Span(2, 4)), Seat(Span(4, 6))]
    journal = Journal(range(8), Budget(0))
    play(seats, journal, 6)
    lost = gaps(MODEL, [seats[0], seats[2]], journal)
    assert lost == (Span(0, 4),), "with nothing kept, the replay begins at the token ids"
    journal.drop_incomplete(lost[0])
    seats[:2] = [Seat(Span(0, 3)), Seat(Span(3, 4))]
    assert play(seats, journal, 7) == [
        (0, 0, 4, "HIDDEN"), (1, 0, 4, "NOTHING"),
        (0, 4, 4, "HIDDEN"), (1, 4, 4, "NOTHING"),
        (0, 8, 1, "HIDDEN"), (1, 8, 1, "HIDDEN"), (2, 8, 1, "TOKEN"),
    ]  # fmt: skip


def test_a_gap_stays_small_while_the_journal_has_its_input():
    seats = [Seat(Span(0, 2)), Seat(Span(2, 4)), Seat(Span(4, 6))]
    journal = Journal(range(8), Budget(1 << 20))
    play(seats, journal, 6)
    assert gaps(MODEL, seats, journal) == ()
    assert gaps(MODEL, [seats[0], seats[2]], journal) == (Span(2, 4),)
    assert gaps(MODEL, [seats[1]], journal) == (Span(0, 2), Span(4, 6))
    assert gaps(MODEL, [], journal) == (MODEL,)


def test_a_move_knows_where_it_ends():
    assert Move(0, 3, 4, Want.NOTHING).end == 7
