"""Digests by themselves; what they do to Pages is ``test_housing``'s."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer import prefix
from peer.seat import Accept, Seat
from proto.messages import Chunk, Hidden, WireDType
from swarm.span import Span
from tests.support.home import name_of
from tests.support.seats import opening, seat, tokens

PAGE = 4


def feed(one: Seat, chunk: Chunk) -> list[bytes]:
    """Accept, compute and note."""
    verdict = one.admit(0, chunk)
    assert isinstance(verdict, Accept), verdict
    if verdict.rolled:
        prefix.cut(one, PAGE)
    one.finish(chunk, ())
    return prefix.note(one, chunk, PAGE)


def test_names_are_a_chain_over_the_input_however_it_is_cut():
    one, other = seat(), seat()
    whole = feed(one, tokens(0, 0, 12))
    parts = [name for step, at, count in ((0, 0, 3), (1, 3, 1), (2, 4, 6), (3, 10, 2)) for name in feed(
        other, tokens(step, at, count, first_id=5 + at)
    )]  # fmt: skip
    assert whole == parts == one.digests == [name_of(tuple(range(5, 5 + end))) for end in (4, 8, 12)]


def test_a_page_is_named_once_it_is_full_and_certain():
    one = seat()
    assert feed(one, tokens(0, 0, 3)) == []
    assert feed(one, tokens(1, 3, 6, drafts=5)) == [name_of((5, 6, 7, 5))]
    assert feed(one, tokens(2, 5, 1, first_id=70)) == []
    assert feed(one, tokens(3, 6, 2, first_id=71)) == [name_of((5, 6, 7, 5, 6, 70, 71, 72))]


@pytest.mark.parametrize(("back_to", "names"), [(12, 3), (10, 2), (8, 2), (6, 1), (4, 1), (3, 0), (0, 0)])
def test_a_seat_that_was_rolled_back_names_what_its_chain_still_leads_to(back_to: int, names: int):
    one = seat()
    feed(one, tokens(0, 0, 12))
    one.rollback(back_to)
    prefix.cut(one, PAGE)
    assert len(one.digests) == names
    text = (*range(5, 5 + back_to), *(90,) * 8)
    new = feed(one, replace(tokens(1, back_to, 8), token_ids=(90,) * 8))
    known = back_to % PAGE == 0  # else the beginning of the Page went by long ago
    assert new == ([name_of(text[: back_to + more]) for more in (4, 8)] if known else [])


def test_a_roll_back_within_the_page_that_is_being_filled_breaks_nothing():
    one = seat()
    feed(one, tokens(0, 0, 7))
    one.rollback(5)
    prefix.cut(one, PAGE)
    assert feed(one, tokens(1, 5, 3, first_id=60)) == [name_of((5, 6, 7, 8, 9, 60, 61, 62))]


def test_hidden_states_are_named_by_their_bytes():
    rows = [bytes([n]) * 8 for n in range(1, 9)]
    one, other = (seat(request=opening(span=Span(2, 8))) for _ in range(2))
    chunk = Chunk(0, 0, 8, tokens(0, 0).want, hidden=Hidden(WireDType.F32, 8, 2, b"".join(rows)))
    names = feed(one, chunk)
    changed = replace(chunk, hidden=Hidden(WireDType.F32, 8, 2, b"".join([*rows[:7], bytes(8)])))
    assert len(names) == 2
    assert [a == b for a, b in zip(names, feed(other, changed), strict=True)] == [True, False]


def test_what_is_kept_is_bound_to_client_part_of_the_span_wire_and_ends():
    request, digest = opening(), bytes(16)
    scopes = {
        prefix.scoped(digest, each, client)
        for each in (
            request, replace(request, span=Span(0, 7)), replace(request, span=Span(1, 8)),
            replace(request, wire=WireDType.BF16), replace(request, embedded=True),
        )
        for client in ("", "a", "b")
    }  # fmt: skip
    assert len(scopes) == 15
    assert prefix.scoped(digest, replace(request, max_tokens=9, history=(1,)), "a") in scopes
    assert prefix.scoped(bytes(15) + b"1", request, "a") not in scopes
