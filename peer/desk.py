"""The desk: what comes over the Links meets the books and the engine here. State first, synchronously; knows no gRPC.

``receive`` takes one entry and puts its direct answer, if it has one, into the outbox of its Link; ``deliver`` does the
same with what the engine computed. Everything a stranger can cause ends in a Fault to the Session that caused it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import count
from typing import Protocol

import structlog

from peer.engine import Engine, Output
from peer.seat import Repeat, Seat
from peer.seats import Seats
from proto.messages import Advance, Chunk, Close, Entry, Open, Rejected
from swarm.errors import BadRequest, Draining, Fault, Internal, NoSeat, Overflow

log = structlog.get_logger("peer.desk")


class Outgoing(Protocol):
    """The part of ``proto.outbox.Outbox`` that is used here."""

    def put(self, entry: Entry) -> None: ...

    def drop(self, session: bytes) -> None: ...

    def close(self) -> None: ...


class Desk:
    """Links are numbers here; a number is never given twice, so a Seat cannot come to belong to a later Link."""

    def __init__(self, seats: Seats, engine: Engine):
        self.seats = seats
        self.engine = engine
        self._links: dict[Hashable, Outgoing] = {}
        self._numbers = count()

    @property
    def num_links(self) -> int:
        return len(self._links)

    def join(self, outbox: Outgoing) -> int:
        """A Link came up. Returns its number."""
        number = next(self._numbers)
        self._links[number] = outbox
        return number

    def leave(self, link: int) -> None:
        """A Link is gone, and its Seats with it."""
        self._links.pop(link, None)
        for seat in self.seats.close_link(link):
            self.engine.discard(seat)

    def receive(self, link: int, item: Entry | Rejected) -> None:
        """Act on one entry of a Session."""
        try:
            if isinstance(item, Rejected):
                raise item.fault
            answer = self._act(link, item)
        except Fault as fault:
            # Under the epoch of the question: an old asker hears that it is old, the present one is not disturbed.
            answer = Entry(item.session, item.epoch, fault)
        if answer is not None:
            self._send(link, answer)

    def deliver(self, outputs: Sequence[Output]) -> None:
        """Pass on what was computed. A Seat whose step failed is closed: its KV can no longer be trusted."""
        for work, answer in outputs:
            seat = work.seat
            if not self.seats.holds(seat):
                continue  # closed meanwhile
            if isinstance(answer, Fault):
                self._close(seat, answer)
            else:
                entry = seat.finish(work.chunk, answer)
                self.seats.renew(seat)
                if entry is not None:
                    self._send(seat.link, entry)

    def sweep(self) -> None:
        """Close the Seats whose lease has run out, and say so."""
        for seat in self.seats.close_expired():
            self.engine.discard(seat)
            log.info("lease ran out", session=seat.session.hex()[:8], position=seat.position)
            self._send(seat.link, seat.entry(NoSeat(f"no step came for {seat.lease_s:g} s, so the seat was freed")))

    def drain(self) -> None:
        """Take no new Seats from now on."""
        self.seats.draining = True

    def evict(self) -> None:
        """Close the Seats that are left, with word that this Peer leaves, so that their Sessions move on at once."""
        for seat in list(self.seats):
            self._close(seat, Draining("this peer is leaving now; use another"))

    def hang_up(self) -> None:
        """End every Link once it has written what is queued."""
        for outbox in self._links.values():
            outbox.close()

    def _act(self, link: int, entry: Entry) -> Entry | None:
        session, epoch, body = entry.session, entry.epoch, entry.body
        if isinstance(body, Open):
            known = self.seats.get(session)
            opened = self.seats.open(session, epoch, link, body)
            if known is not None and not self.seats.holds(known):
                self.engine.discard(known)
            return Entry(session, epoch, opened)
        if isinstance(body, Close | Fault):  # a Fault from over there: the Session gave up
            seat = self.seats.get(session)
            if seat is not None and seat.link == link and epoch >= seat.epoch:
                self._forget(seat)
            return None  # closing twice is no mistake worth a word
        if isinstance(body, Advance):
            seat = self.seats.find(session, link)
            seat.advance(epoch)
            return Entry(session, epoch, seat.opened())
        if isinstance(body, Chunk):
            return self._chunk(self.seats.find(session, link), epoch, body)
        raise BadRequest(f"a peer is not sent {type(body).__name__}")

    def _chunk(self, seat: Seat, epoch: int, chunk: Chunk) -> Entry | None:
        verdict = seat.admit(epoch, chunk)
        if isinstance(verdict, Fault):
            raise verdict
        if isinstance(verdict, Repeat):
            return None if verdict.reply is None else Entry(seat.session, epoch, verdict.reply)
        self.engine.submit(seat, chunk)
        return None

    def _send(self, link: Hashable, entry: Entry) -> None:
        """Queue an entry. A Session that does not read its output loses its Seat, and no other is disturbed."""
        outbox = self._links.get(link)
        if outbox is None:
            return
        try:
            outbox.put(entry)
        except Overflow as fault:
            log.info("session does not read", session=entry.session.hex()[:8], why=str(fault))
            outbox.drop(entry.session)
            seat = self.seats.get(entry.session)
            if seat is not None and seat.link == link:
                self._forget(seat)
            try:
                outbox.put(Entry(entry.session, entry.epoch, fault))
            except Overflow:
                pass  # so many others do not read that it cannot even be told

    def _close(self, seat: Seat, fault: Fault) -> None:
        if isinstance(fault, Internal):
            log.warning("seat failed", session=seat.session.hex()[:8], why=str(fault))
        self._forget(seat)
        self._send(seat.link, seat.entry(fault))

    def _forget(self, seat: Seat) -> None:
        self.seats.close(seat)
        self.engine.discard(seat)
