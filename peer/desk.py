"""The desk: what comes over the Links meets the books and the engine here. State first, synchronously; knows no gRPC.

    receive(link, entry)   from a client or a Peer ──▶ Seat ──▶ engine
    deliver(outputs)       from the engine ──▶ Seat ──▶ Outflow ──▶ the next Hop, or the client
                                            └▶ Tokens ──▶ the client, and in a ring the first Hop

Everything a stranger can cause ends in a Fault to the Session that caused it. What a neighbour causes is told to the
client, as Trouble: the Seat itself is well, and waits.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import count
from typing import Protocol

import structlog

from peer.engine import Engine, Output
from peer.journals import Journals
from peer.meter import Meter
from peer.onward import Here, Onward, Post, feed_on
from peer.seat import Answer, Repeat, Seat
from peer.seats import Seats
from proto.messages import (
    Advance,
    Chunk,
    Close,
    Done,
    Entry,
    Fork,
    Open,
    Opened,
    Path,
    Rejected,
    Timing,
    Trouble,
)
from swarm.errors import BadRequest, Draining, Fault, Internal, NoSeat, Overflow, StaleEpoch

MAX_EARLY = 16  # Chunks that may come before a Seat's Path; more are not sent unanswered
HERE = "here"  # the Link of this Peer to itself

log = structlog.get_logger("peer.desk")


class Outgoing(Protocol):
    """The part of ``proto.outbox.Outbox`` that is used here."""

    def put(self, entry: Entry) -> None: ...

    def drop(self, session: bytes) -> None: ...

    def close(self) -> None: ...


class Desk:
    """Links are numbers here; a number is never given twice, so a Seat cannot come to belong to a later Link."""

    def __init__(
        self, seats: Seats, engine: Engine, post: Post, peer_id: str,
        *, meter: Meter | None = None, journals: Journals | None = None,
    ):  # fmt: skip
        self.seats = seats
        self.engine = engine
        self.meter = meter or Meter()
        self.journals = journals or Journals()
        self._post = post
        self._peer_id = peer_id
        self._here = Here()
        self._links: dict[Hashable, Outgoing] = {}
        self._clients: dict[Hashable, str] = {}
        self._numbers = count()

    @property
    def num_links(self) -> int:
        return len(self._links)

    def join(self, outbox: Outgoing) -> int:
        """A Link came up. Returns its number."""
        number = next(self._numbers)
        self._links[number] = outbox
        return number

    def introduce(self, link: int, client: str) -> None:
        """Whose Link it is, by its own words: for fairness, and for what is kept between Sessions."""
        self._clients[link] = client

    def leave(self, link: int) -> None:
        """A Link is gone, and the Seats that it opened with it."""
        self._links.pop(link, None)
        self._clients.pop(link, None)
        for seat in self.seats.close_link(link):
            self._let_go(seat)

    def receive(self, link: Hashable, item: Entry | Rejected) -> None:
        """Act on one entry of a Session."""
        try:
            if isinstance(item, Rejected):
                raise item.fault
            answer = self._act(link, item)
        except Fault as fault:
            self.meter.refused(fault.code)
            answer = Entry(item.session, item.epoch, fault)  # under its own epoch: only who asked hears it
        except Exception as error:  # a mistake of ours with one Session must not end the Link that others share
            log.exception("receiving failed", session=item.session.hex()[:8])
            failed = Internal(f"this peer failed while receiving ({type(error).__name__}); use another")
            answer = Entry(item.session, item.epoch, failed)
        if answer is not None:
            self._send(link, answer)

    def deliver(self, outputs: Sequence[Output]) -> None:
        """Pass on what was computed. A Seat whose step failed is closed: its KV can no longer be trusted."""
        for output in outputs:
            seat, answer = output.work.seat, output.answer
            if not self.seats.holds(seat):
                continue  # closed meanwhile
            if isinstance(answer, Fault):
                self._close(seat, answer)
                continue
            try:
                self._pass_on(seat, output.work.chunk, answer, output)
            except Exception as error:  # a mistake of ours with one Seat must not end the Peer
                log.exception("delivering failed", session=seat.session.hex()[:8])
                self._close(seat, Internal(f"this peer failed while delivering ({type(error).__name__}); use another"))

    def sweep(self) -> None:
        """Close the Seats whose lease has run out, and say so."""
        for seat in self.seats.close_expired():
            self._let_go(seat)
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

    def answered(self, seat: Seat, onward: Onward, entry: Entry) -> None:
        """A neighbour answered what ``seat`` sent it."""
        if not self._present(seat, onward) or entry.epoch != seat.epoch:
            return
        if isinstance(entry.body, Done):
            if onward is seat.onward:
                seat.outflow.answered(entry.body.position)
                self._pump(seat)
        elif isinstance(entry.body, Fault):
            self.broke(seat, onward, entry.body)

    def broke(self, seat: Seat, onward: Onward, fault: Fault) -> None:
        """A neighbour cannot be sent to, or gave its Seat up: the client has to know."""
        if not self._present(seat, onward) or isinstance(fault, StaleEpoch) or not seat.outflow.moving:
            return  # of an old epoch, or told before: the client is about to say how things stand
        log.info("neighbour in trouble", session=seat.session.hex()[:8], peer=onward.to.peer_id[:8], why=str(fault))
        seat.outflow.halt()
        self._send(seat.link, seat.entry(Trouble(onward.to.peer_id, fault)))

    def _act(self, link: Hashable, entry: Entry) -> Entry | None:
        session, epoch, body = entry.session, entry.epoch, entry.body
        match body:
            case Chunk():  # most of them, hence first
                return self._chunk(self.seats.receiver(session), link, epoch, body)
            case Open():
                known = self.seats.get(session)
                try:
                    opened = self.seats.open(session, epoch, link, body, self._clients.get(link, ""))
                finally:  # it is given up for the new one, also where that is refused
                    if known is not None and not self.seats.holds(known):
                        self._let_go(known)
                return Entry(session, epoch, opened)
            case Path():
                seat = self.seats.find(session, link)
                if epoch > 0 and (seat.position or body.next_position or body.position):
                    self.meter.served_failover()  # not where a first start is tried again
                busy = seat.busy
                if seat.take_path(epoch, body):
                    self._rolled_back(seat, busy)
                self._lead(seat, body)
                self._pump(seat)
                early, seat.early = seat.early, []
                for source, before, chunk in early:
                    self.receive(source, Entry(session, before, chunk))
                return None
            case Advance():
                seat = self.seats.find(session, link)
                busy = seat.busy
                seat.advance(epoch)
                self._rolled_back(seat, busy)
                self._lead(seat, None)
                return Entry(session, epoch, seat.opened())
            case Fork():
                return Entry(body.seat, epoch, self._fork(link, session, body))
            case Close() | Fault():  # a Fault from over there: the Session gave up
                seat = self.seats.get(session)
                if seat is not None and seat.link == link and epoch >= seat.epoch:
                    self._forget(seat)
                return None  # closing twice is no mistake worth a word
            case _:
                raise BadRequest(f"a peer is not sent {type(body).__name__}")

    def _fork(self, link: Hashable, session: bytes, request: Fork) -> Opened | Fault:
        """A Fault concerns the new Seat alone; the one that was to be forked is well."""
        try:
            return self.seats.fork(self.seats.find(session, link), request)
        except Fault as fault:
            self.meter.refused(fault.code)
            return fault

    def _chunk(self, seat: Seat, link: Hashable, epoch: int, chunk: Chunk) -> Entry | None:
        if not seat.outflow.moving and epoch == seat.epoch:
            if len(seat.early) >= MAX_EARLY:  # the Hop before had its Path sooner, or trouble is under way
                raise Overflow(f"{MAX_EARLY} chunks wait for this seat's path, no more than that may")
            seat.early.append((link, epoch, chunk))
            return None
        busy = seat.busy
        verdict = seat.admit(epoch, chunk)
        if isinstance(verdict, Fault):
            raise verdict
        if isinstance(verdict, Repeat):
            if verdict.answer is not None:
                self._repeat(seat, link, chunk, verdict.answer)
            return None
        seat.source = link
        if verdict.rolled:
            self._rolled_back(seat, busy)
        self.engine.submit(seat, chunk)
        return None

    def _pass_on(self, seat: Seat, chunk: Chunk, answer: Answer, output: Output) -> None:
        due = seat.finish(chunk, answer)
        self.seats.renew(seat)
        kept = self.seats.housing.computed(seat, chunk)
        if kept is not None:
            self._send(seat.link, seat.entry(kept))
        if due:
            self._send(seat.source, Entry(seat.session, seat.epoch, Done(chunk.step, chunk.end)))
        timing = Timing(seat.request.span.start, output.queue_s, output.compute_s)
        self._emit(seat, chunk, answer, (*chunk.timings, timing) if seat.request.timing else ())

    def _rolled_back(self, seat: Seat, busy: bool) -> None:
        """Others forget what they have of a Seat's positions that count no longer. It was ``busy`` when it happened."""
        if busy:
            self.engine.discard(seat)
        self.seats.housing.rolled_back(seat)

    def _repeat(self, seat: Seat, link: Hashable, chunk: Chunk, answer: Answer) -> None:
        """The same Chunk came again, and so does its answer. What went to the next Hop is there."""
        if chunk.count > 1:
            self._send(link, Entry(seat.session, seat.epoch, Done(chunk.step, chunk.end)))
        if not isinstance(answer, Chunk):
            for token in answer:
                self._send(seat.link, seat.entry(token))
        elif seat.onward is None:
            self._send(seat.link, seat.entry(answer))

    def _emit(self, seat: Seat, chunk: Chunk, answer: Answer, timings: tuple[Timing, ...]) -> None:
        """Send what was computed to where it goes."""
        if isinstance(answer, Chunk):
            answer = replace(answer, timings=timings) if timings else answer
            if seat.at_end:
                self._send(seat.link, seat.entry(answer))
                return
            seat.outflow.give(answer)
            self._pump(seat)
            if self.journals.kept(0 if answer.hidden is None else len(answer.hidden.data)):
                self.journals.settle(self.seats)
            return
        if chunk.drafts:
            self.meter.drafted(len(chunk.drafts), len(answer) - 1)
        for token in answer:
            self._send(seat.link, seat.entry(replace(token, timings=timings) if timings else token))
        if seat.feeding is not None and answer:
            following = feed_on(seat, chunk, answer, self.seats.now())
            if following is not None:
                self._forward(seat, seat.feeding, following)

    def _pump(self, seat: Seat) -> None:
        """Send of a Seat's outputs what may go now."""
        for chunk in seat.outflow.take():
            if not seat.outflow.moving:
                return  # trouble with the one before
            if seat.onward is None:
                self._send(seat.link, seat.entry(chunk))
            else:
                self._forward(seat, seat.onward, chunk)

    def _forward(self, seat: Seat, onward: Onward, chunk: Chunk) -> None:
        entry = Entry(onward.to.seat, seat.epoch, chunk)
        if onward.to.peer_id == self._peer_id:
            self._here.ears[entry.session] = onward
            self.receive(HERE, entry)
        else:
            self._post.send(onward.to, entry, onward)

    def _lead(self, seat: Seat, path: Path | None) -> None:
        """Outputs of ``seat`` go along ``path`` from now on; nowhere without one."""
        for onward in (seat.onward, seat.feeding):
            if onward is not None:
                self._here.ears.pop(onward.to.seat, None)
                self._post.forget(onward.to)
        seat.onward = None if path is None or path.next is None else Onward(self, seat, path.next)
        seat.feeding = None if path is None or path.feed is None else Onward(self, seat, path.feed)

    def _present(self, seat: Seat, onward: Onward) -> bool:
        return self.seats.holds(seat) and onward in (seat.onward, seat.feeding)

    def _send(self, link: Hashable, entry: Entry) -> None:
        """Queue an entry. A Session that does not read its output loses its Seat, and no other is disturbed."""
        outbox = self._here if link is HERE else self._links.get(link)
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
        self.meter.refused(fault.code)
        if isinstance(fault, Internal):
            log.warning("seat failed", session=seat.session.hex()[:8], why=str(fault))
        self._forget(seat)
        self._send(seat.link, seat.entry(fault))

    def _forget(self, seat: Seat) -> None:
        self.seats.close(seat)
        self._let_go(seat)

    def _let_go(self, seat: Seat) -> None:
        """What others hold of a Seat that has left the book."""
        self.engine.discard(seat)
        self._lead(seat, None)
