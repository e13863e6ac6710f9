"""Housing: gives Seats their Pages, finds them those of an earlier Session, and moves Seats out when Pages are short.
Sole owner of the PagePool. Decides; what is to be copied it leaves as jobs for the compute thread, in order.

A Seat is promised Pages for all its tokens when it is opened, and takes one when a Chunk first writes into it. Before
it writes again into one, after a rollback, it copies what others read too, and what nobody else reads can no longer be
found.

Where Pages are short (the pool promised more than it has, or a shared Page has to be copied), the Batch is housed by
``swap.plan``: idle Seats leave for host memory, or for a file once that is spent, and come back when they have work.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import IO, Protocol

import structlog

from peer import prefix
from peer.pages import RETRY_AFTER_S, PagePool
from peer.scheduler import Work
from peer.seat import Seat
from peer.swap import Standing, plan
from proto.messages import Chunk, Kept, Open
from swarm.errors import Refused


class Pager(Protocol):
    """The part of ``peer.runner.Runner`` that jobs use, on the compute thread."""

    def copy_page(self, source: int, target: int) -> None: ...

    def read_pages(self, pages: Sequence[int]) -> memoryview: ...

    def write_pages(self, pages: Sequence[int], data: bytes | bytearray | memoryview) -> None: ...


MAX_JOBS = 1024  # copies for Forks that wait for the next Batch

Job = Callable[[Pager], None]

log = structlog.get_logger("peer.housing")


@dataclass(frozen=True, slots=True)
class Housed:
    """``go`` have their Pages once the ``jobs`` are done, in order; ``stay`` must wait for others to leave."""

    go: tuple[Work[Seat], ...]
    stay: tuple[Work[Seat], ...]
    jobs: tuple[Job, ...]


class Housing:
    """``swap_bytes`` is how much of the host's memory Seats that moved out may take; more goes to files."""

    def __init__(self, pool: PagePool, page_size: int, swap_bytes: int = 1 << 30):
        self.pool = pool
        self.page_size = page_size
        self.swapped_out = 0  # Seats, since the start
        self._jobs: list[Job] = []
        self._attic = Attic(swap_bytes)

    def move_in(self, request: Open, client: str) -> tuple[tuple[int, ...], int]:
        """The Pages that a new Seat begins with, which hold a prefix of its input, and how many more it is owed. Raises
        Refused.
        """
        most = max(0, request.prompt_tokens - 1) // self.page_size  # one position has to be computed in any case
        found = self.pool.find([prefix.scoped(digest, request, client) for digest in request.prefix[:most]])
        owed = self._pages_for(request.max_tokens) - len(found)
        try:
            self.pool.promise(owed)
        except BaseException:
            self.pool.release(found)
            raise
        return found, owed

    def move_out(self, seat: Seat) -> None:
        """A Seat that is closed gives everything back."""
        self.pool.release(seat.pages)
        self.pool.forgive(seat.owed)
        if seat.stored is not None:
            self._attic.clear(seat.stored)
        seat.pages, seat.owed, seat.stored = (), 0, None

    def rolled_back(self, seat: Seat) -> None:
        """Pages past what the Seat has computed are owed again."""
        prefix.cut(seat, self.page_size)
        if seat.stored is not None:
            return  # it comes back with all that it had; what lies past its position is written anew
        keep = self._pages_for(seat.done)
        if len(seat.pages) > keep:
            self.pool.suspend(seat.pages[keep:])
            seat.owed += len(seat.pages) - keep
            seat.pages = seat.pages[:keep]

    def computed(self, seat: Seat, chunk: Chunk) -> Kept | None:
        """A Chunk of the Seat was computed: Pages that are full now can be found again, and this is how."""
        first = len(seat.digests)
        new = prefix.note(seat, chunk, self.page_size)
        if seat.stored is None:
            for index, digest in enumerate(new, first):
                self.pool.keep(seat.pages[index], prefix.scoped(digest, seat.request, seat.client))
        return Kept(first, tuple(new)) if new else None

    def fork(self, seat: Seat, position: int) -> tuple[tuple[int, ...], int]:
        """Pages of a second Seat that begins as this one, and how many it is owed. Raises Refused."""
        if len(self._jobs) >= MAX_JOBS:
            raise Refused(f"{MAX_JOBS} pages wait to be copied", RETRY_AFTER_S)
        full = position // self.page_size
        owed = self._pages_for(seat.request.max_tokens) - full
        self.pool.promise(owed)
        pages = seat.pages[:full]
        self.pool.share(pages)
        if position % self.page_size:
            page = self.pool.take()
            if page is None:
                self.pool.release(pages)
                self.pool.forgive(owed)
                raise Refused("no page is free for a copy of a shared one", RETRY_AFTER_S)
            self._copy(seat.pages[full], page)
            pages, owed = (*pages, page), owed - 1
        return pages, owed

    def house(self, works: Sequence[Work[Seat]], seats: Sequence[Seat], waits: Callable[[Seat], bool]) -> Housed:
        """See that each Work's Seat has the Pages that its Chunk writes. ``seats`` are all there are; ``waits`` says
        whether one has a Chunk ready that is not among the Works.
        """
        chunks = {work.seat: work.chunk for work in works}
        lacks = {seat: self._lacks(seat, chunk) for seat, chunk in chunks.items()}
        go: Collection[Seat] = chunks
        if sum(lacks.values()) > self.pool.free:
            standings = [
                Standing(
                    seat, seat.number, seat.expires_at,
                    held=0 if seat.stored is not None else sum(not self.pool.is_shared(page) for page in seat.pages),
                    lacks=lacks.get(seat, 0), in_batch=seat in lacks, waiting=waits(seat),
                )
                for seat in seats
            ]  # fmt: skip
            decided = plan(standings, self.pool.free)
            leave, go = decided.leave, decided.go
            oldest = min(chunks, key=lambda seat: seat.number)
            if oldest not in go and (way := self._way_for(oldest, lacks[oldest], standings)):
                leave, go = way, (oldest,)
            for seat in leave:
                self._store(seat)
        for seat in go:
            self._serve(seat, chunks[seat])
        going = tuple(replace(work, pages=work.seat.pages) for work in works if work.seat in go)
        return Housed(going, tuple(work for work in works if work.seat not in go), self._take_jobs())

    def _pages_for(self, tokens: int) -> int:
        return -(-tokens // self.page_size)

    def _lacks(self, seat: Seat, chunk: Chunk) -> int:
        """Pages that the Seat has to be given before it can compute ``chunk``; fewer, once others have theirs."""
        if seat.stored is not None:
            return max(self._pages_for(chunk.end), seat.stored.num_pages)
        again = sum(self.pool.is_shared(page) for page in seat.pages[chunk.position // self.page_size :])
        return again + max(0, self._pages_for(chunk.end) - len(seat.pages))

    def _way_for(self, needy: Seat, lacks: int, standings: Sequence[Standing[Seat]]) -> Sequence[Seat]:
        """Who has to leave for the Batch's oldest, where the plan found too few whose Pages would do. Pages that
        several share come free once all of these have left. Nobody, where that is not enough either.
        """
        holders = Counter(page for standing in standings for page in standing.seat.pages)
        leave, reach = list[Seat](), self.pool.free
        for other in sorted(standings, key=lambda s: (s.in_batch or s.waiting, -s.opened)):
            may_leave = other.opened > needy.number or not (other.in_batch or other.waiting)
            if reach < lacks and may_leave and other.seat is not needy and other.seat.pages:
                leave.append(other.seat)
                holders.subtract(other.seat.pages)
                reach += sum(holders[page] == 0 for page in other.seat.pages)
        return leave if reach >= lacks else ()

    def _serve(self, seat: Seat, chunk: Chunk) -> None:
        missing = self._pages_for(chunk.end) - len(seat.pages)
        if seat.stored is not None:
            stored, seat.stored = seat.stored, None
            seat.pages = self._take(seat, max(missing, stored.num_pages))
            back = seat.pages[: stored.num_pages]
            self._jobs.append(lambda pager: self._attic.restore(stored, pager, back))
            return
        for index in range(chunk.position // self.page_size, len(seat.pages)):
            self._own(seat, index)
        if missing > 0:
            seat.pages += self._take(seat, missing)

    def _take(self, seat: Seat, count: int) -> tuple[int, ...]:
        taken = [self.pool.take() for _ in range(count)]
        pages = tuple(page for page in taken if page is not None)
        assert len(pages) == count, "the plan counted on pages that are not there"
        seat.owed -= count
        return pages

    def _own(self, seat: Seat, index: int) -> None:
        """The Seat writes again into one of its Pages."""
        page = seat.pages[index]
        if not self.pool.is_shared(page):
            self.pool.forget(page)
            return
        self.pool.suspend((page,))
        seat.owed += 1
        (own,) = self._take(seat, 1)
        self._copy(page, own)
        seat.pages = (*seat.pages[:index], own, *seat.pages[index + 1 :])

    def _store(self, seat: Seat) -> None:
        """Move a Seat's Pages out."""
        pages, stored = seat.pages, Stored(len(seat.pages))
        self._jobs.append(lambda pager: self._attic.store(stored, pager, pages))
        self.pool.suspend(pages)
        seat.owed += len(pages)
        seat.pages, seat.stored = (), stored
        self.swapped_out += 1

    def _copy(self, source: int, target: int) -> None:
        self._jobs.append(lambda pager: pager.copy_page(source, target))

    def _take_jobs(self) -> tuple[Job, ...]:
        jobs, self._jobs = tuple(self._jobs), []
        return jobs


class Stored:
    """What a Seat that moved out left behind, once the compute thread has put it there."""

    __slots__ = ("data", "dropped", "file", "num_pages", "size")

    def __init__(self, num_pages: int):
        self.num_pages = num_pages
        self.data: memoryview | None = None
        self.file: IO[bytes] | None = None
        self.size = 0  # bytes of memory
        self.dropped = False


class Attic:
    """Where Seats that moved out are kept. ``store`` and ``restore`` run on the compute thread, ``clear`` anywhere."""

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0  # bytes of memory
        self._lock = threading.Lock()

    def store(self, stored: Stored, pager: Pager, pages: Sequence[int]) -> None:
        data = pager.read_pages(pages)
        with self._lock:
            if stored.dropped:
                return  # closed meanwhile
            if self.used + data.nbytes > self.limit:
                try:
                    stored.file = _file_of(data)
                    return
                except OSError as error:  # no Session is lost for want of disk
                    log.warning("a seat cannot be moved to disk, it stays in memory", why=str(error))
            stored.data, stored.size = data, data.nbytes
            self.used += data.nbytes

    def restore(self, stored: Stored, pager: Pager, pages: Sequence[int]) -> None:
        if stored.file is not None:
            stored.file.seek(0)
            pager.write_pages(pages, stored.file.read())
        else:
            assert stored.data is not None, "what was to be stored never was: its Batch had failed"
            pager.write_pages(pages, stored.data)
        self.clear(stored)

    def clear(self, stored: Stored) -> None:
        with self._lock:
            stored.dropped = True
            self.used -= stored.size
            if stored.file is not None:
                stored.file.close()
            stored.data, stored.file, stored.size = None, None, 0


def _file_of(data: memoryview) -> IO[bytes]:
    """A file that holds ``data``. Raises OSError, also for what a buffer would have noticed only later."""
    file = tempfile.TemporaryFile(prefix="shoal-seat-")  # noqa: SIM115 - closed in clear()
    try:
        file.write(data)
        file.flush()
    except OSError:
        with contextlib.suppress(OSError):
            file.close()
        raise
    return file
