"""Which Chunk goes where next. Pure: reads the Seats' positions and the Journal, returns a Move, touches nothing.

One rule serves prefill, decoding and replay: **run the last Hop whose input is at hand.** Every Hop has to reach the
last known token; its input is the token ids (Hop 0) or what the Hop before it gave (the Journal). In an undisturbed
Session that means hop after hop, Chunk after Chunk. A replacement simply begins at position 0, and the rule replays
the Journal to it; several replacements in a row take turns, so that no more than a Chunk between them has to be held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from client.journal import Journal
from proto.messages import Want
from swarm.span import Span, uncovered


class Place(Protocol):
    """A Seat as seen from here: which Blocks, and which position it takes next."""

    @property
    def span(self) -> Span: ...
    @property
    def position(self) -> int: ...
    @property
    def max_chunk_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Move:
    """Give the Seat ``place`` the ``count`` positions from ``position``, and get back ``want``."""

    place: int
    position: int
    count: int
    want: Want

    @property
    def end(self) -> int:
        return self.position + self.count


def next_move(places: Sequence[Place], journal: Journal) -> Move:
    """The next Move towards the next token. ``places`` cover the model in order, ends meeting."""
    for index in reversed(range(len(places))):
        place = places[index]
        first, end = journal.extent(place.span.start)
        if place.position >= end:
            continue
        assert first <= place.position, f"{place.span} is at {place.position}, its input begins at {first}"
        end = min(end, place.position + place.max_chunk_tokens)
        if index == len(places) - 1:
            want = Want.TOKEN if end == len(journal) else Want.NOTHING
        else:
            held = journal.extent(place.span.end)[1]  # what crossed already need not cross again
            want = Want.HIDDEN if place.position >= held else Want.NOTHING
            end = end if want is Want.HIDDEN else min(end, held)
        return Move(index, place.position, end - place.position, want)
    raise AssertionError("every hop is past the last token, yet the next one is unknown")


def gaps(model: Span, places: Sequence[Place], journal: Journal) -> tuple[Span, ...]:
    """The Blocks that need new Seats: those without one, and those whose Seat would have to repeat itself.

    A new Seat needs its input from position 0. Where the Journal shed it, the Hop before must compute it again, and
    cannot with a Seat that is past it: so the gap grows upstream, at the latest to the token ids.
    """
    missing = uncovered(model, (place.span for place in places))
    for gap in missing:
        if journal.extent(gap.start)[0] > 0:
            return gaps(model, [place for place in places if place.span.end != gap.start], journal)
    return missing
