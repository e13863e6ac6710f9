"""Where everybody stands, and from where they go on. Pure: positions in, positions out.

A boundary between two Hops has a courier: the Hop before it, or the client. Whoever carries keeps what it carried, for
as far back as it can. After trouble each Seat has a position, and what crossed a boundary beyond the position behind it
has to cross again. If its courier still has it, it sends it again; if not, the Hop before has to compute it again,
and is rolled back for that: so the gap grows upstream, at the latest to the token ids, which the client has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Place(Protocol):
    """A Seat as seen from here: its next position, and from where on it kept what it gave."""

    @property
    def position(self) -> int: ...
    @property
    def kept_from(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Stand:
    """``position`` is where the Seat goes on; ``wanted`` is the first output that its courier is to be given."""

    position: int
    wanted: int


def settle(places: Sequence[Place], carried: Sequence[tuple[int, int] | None], cap: int) -> list[Stand]:
    """Where each Seat goes on, at ``cap`` at the latest.

    ``carried[i]`` is of the boundary behind place i: the positions [first, end) that the client has, or None where the
    Hop carries by itself. The last one is not looked at.
    """
    stands: list[Stand] = []
    behind = 0
    for index in reversed(range(len(places))):
        place = places[index]
        position = min(place.position, cap)
        wanted = 0
        if stands:
            wanted = behind
            held = carried[index]
            if held is not None and held[0] < held[1] and held[0] <= behind <= held[1]:
                wanted = min(held[1], cap)
            if position > wanted and place.kept_from > wanted:
                position = wanted
        stands.append(Stand(position, wanted))
        behind = position
    return stands[::-1]


P = TypeVar("P", bound=Place)


def first_behind(places: Sequence[P], sent: int) -> P | None:
    """The first Seat that has not got as far as what it was given; the first of them was given ``sent`` positions."""
    for place in places:
        if place.position < sent:
            return place
        sent = place.position
    return None
