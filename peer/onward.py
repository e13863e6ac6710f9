"""Onward: what a Seat's outputs go to at another Peer, and what comes back from there. Also what a ring's last Hop says
to its first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from peer.seat import Seat
from proto.link import Ear
from proto.messages import Chunk, Entry, Neighbour, Token, Want
from swarm.draft import Drafter
from swarm.errors import Fault


class Post(Protocol):
    """The part of ``peer.neighbours.Neighbours`` that is used."""

    def send(self, to: Neighbour, entry: Entry, ear: Ear) -> None: ...

    def forget(self, to: Neighbour) -> None: ...


class Listener(Protocol):
    """The part of ``peer.desk.Desk`` that hears of neighbours."""

    def answered(self, seat: Seat, onward: Onward, entry: Entry) -> None: ...

    def broke(self, seat: Seat, onward: Onward, fault: Fault) -> None: ...


class Onward:
    """The ear of one Seat for the Seat ``to`` at another Peer."""

    __slots__ = ("_listener", "_seat", "to")

    def __init__(self, listener: Listener, seat: Seat, to: Neighbour):
        self._listener, self._seat, self.to = listener, seat, to

    def hear(self, entry: Entry) -> None:
        self._listener.answered(self._seat, self, entry)

    def fail(self, fault: Fault) -> None:
        self._listener.broke(self._seat, self, fault)


class Here:
    """The way from this Peer to itself, for Routes that come by twice."""

    def __init__(self) -> None:
        self.ears: dict[bytes, Onward] = {}

    def put(self, entry: Entry) -> None:
        ear = self.ears.get(entry.session)
        if ear is not None:
            ear.hear(entry)

    def drop(self, session: bytes) -> None:
        pass

    def close(self) -> None:
        pass


def feed_on(seat: Seat, chunk: Chunk, tokens: Sequence[Token], now: float) -> Chunk | None:
    """What the first Hop gets once ``tokens`` were drawn for ``chunk``: the last of them, and drafts where the Session
    has them. None where the answer ends here.
    """
    request, last = seat.request, tokens[-1]
    room = request.max_tokens - 1 - last.position  # tokens that may still be drawn
    if room < 1 or any(token.token_id in request.stop_token_ids for token in tokens):
        return None
    drafts: tuple[int, ...] = ()
    if request.draft_tokens > 0:
        drafter = seat.drafter
        if drafter is None:
            drafter = seat.drafter = Drafter(seat.history, request.draft_tokens)
        else:
            drafter.append([token.token_id for token in tokens])
            if chunk.step == seat.fed_step:
                drafter.observe(chunk.count, now - seat.fed_at)
        if chunk.drafts:
            drafter.accepted(len(chunk.drafts), len(tokens) - 1)
        seat.fed_step, seat.fed_at = chunk.step + 1, now
        drafts = drafter.propose(min(room - 1, request.draft_tokens))
    ids = (last.token_id, *drafts)
    return Chunk(chunk.step + 1, last.position, len(ids), Want.TOKEN, token_ids=ids, drafts=drafts)
