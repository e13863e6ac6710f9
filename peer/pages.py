"""PagePool: who may have which Pages of the KV cache. Integers only; knows nothing of Seats, tensors or tokens.

    free ──take──▶ taken, by one or several ──release of the last──▶ free
                     │ keep(digest)                                   ▲ evicted, least recently used first
                     └──release of the last──▶ cached ────────────────┘
                                                └──find(digest)──▶ taken again

**Promises.** A Seat is promised at Open what it may need, and takes Pages one by one when it writes them; ``owed`` is
what is promised and not taken. No promise takes both together past ``total * overcommit``. At 1.0 there is thus a Page
for every ``take`` but that of a copy (below), and a cached one is only found again where it is owed to nobody. Where
``take`` returns None somebody has to be swapped out (``swap``), which turns taken Pages into owed ones (``suspend``).

**Sharing.** A Page may have several holders (a Fork, a prefix); each of them releases it once. Who wants to write into
a Page that ``is_shared`` takes another, copies and releases; who writes again into one of its own calls ``forget``, for
what the digest says is no longer in it. A Fork copies the last, partly filled Page at once; full ones are not written
again but after a rollback, and for that copy nothing was promised: it may be what somebody is swapped out for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from swarm.errors import Refused

RETRY_AFTER_S = 2.0  # when to ask again for what is taken now; Sessions last seconds to minutes


class PagePool:
    """Pages ``0 … num_pages-1``. The free one released last is taken first, and any free one before a cached one."""

    def __init__(self, num_pages: int, overcommit: float = 1.0):
        assert num_pages > 0 and overcommit >= 1.0, (num_pages, overcommit)
        self.total = num_pages
        self.limit = int(num_pages * overcommit)
        self.owed = 0
        self.hits = 0  # Pages that were looked for and found, since the start
        self._holders = [0] * num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()  # nobody holds them; the least recently used first
        self._digests: dict[int, bytes] = {}
        self._pages: dict[bytes, int] = {}

    @property
    def used(self) -> int:
        """Pages that somebody holds."""
        return self.total - self.free

    @property
    def free(self) -> int:
        """Pages that nobody holds, the cached ones included."""
        return len(self._free) + len(self._cached)

    @property
    def cached(self) -> int:
        return len(self._cached)

    @property
    def promisable(self) -> int:
        """How many Pages may still be promised: what a Peer says it has free."""
        return max(0, self.limit - self.used - self.owed)

    def promise(self, count: int) -> None:
        """Owe ``count`` Pages. Raises Refused; without a retry time if it can never fit."""
        assert count >= 0, count
        if count > self.total:
            raise Refused(f"{count} pages wanted, this peer has {self.total} in all; ask for fewer tokens")
        if count > self.promisable:
            raise Refused(f"{count} pages wanted, {self.promisable} of {self.total} are free now", RETRY_AFTER_S)
        self.owed += count

    def forgive(self, count: int) -> None:
        """Owe ``count`` Pages less: what a Seat that leaves has not taken."""
        assert 0 <= count <= self.owed, f"{count} pages forgiven, {self.owed} are owed"
        self.owed -= count

    def take(self) -> int | None:
        """One of the Pages that are owed. None: all are held, by overcommitment or after copies of shared ones."""
        assert self.owed > 0, "a page is taken that was not promised"
        page = self._pick()
        if page is not None:
            self.owed -= 1
            self._holders[page] = 1
        return page

    def share(self, pages: Sequence[int]) -> None:
        """One holder more for each of these."""
        for page in pages:
            self._check_held(page)
            self._holders[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        """One holder less for each, in the order of a Seat's positions: its last Page is evicted first. A Page that is
        not held is our own mistake.
        """
        for page in reversed(pages):
            self._check_held(page)
            self._holders[page] -= 1
            if not self._holders[page]:
                if page in self._digests:
                    self._cached[page] = None
                else:
                    self._free.append(page)

    def suspend(self, pages: Sequence[int]) -> None:
        """``release`` by a Seat that is swapped out and is owed as many again."""
        self.release(pages)
        self.owed += len(pages)

    def is_shared(self, page: int) -> bool:
        return self._holders[page] > 1

    def keep(self, page: int, digest: bytes) -> None:
        """Let a full Page that is held be found under ``digest``, also once nobody holds it. The first Page of a digest
        stays the one that is found.
        """
        self._check_held(page)
        if digest not in self._pages:
            self.forget(page)
            self._digests[page] = digest
            self._pages[digest] = page

    def forget(self, page: int) -> None:
        """Let a Page that is held not be found any more."""
        self._check_held(page)
        digest = self._digests.pop(page, None)
        if digest is not None:
            del self._pages[digest]

    def find(self, digests: Sequence[bytes]) -> tuple[int, ...]:
        """The Pages of the longest run of ``digests`` from the first on; the caller holds them from now on. One that
        nobody holds ends the run where it is owed to somebody else.
        """
        found: list[int] = []
        for digest in digests:
            page = self._pages.get(digest)
            if page is None:
                break
            if page in self._cached:
                if not self.promisable:
                    break
                del self._cached[page]
            self._holders[page] += 1
            found.append(page)
        self.hits += len(found)
        return tuple(found)

    def _pick(self) -> int | None:
        if self._free:
            return self._free.pop()
        if not self._cached:
            return None
        page, _ = self._cached.popitem(last=False)
        del self._pages[self._digests.pop(page)]
        return page

    def _check_held(self, page: int) -> None:
        assert 0 <= page < self.total and self._holders[page] > 0, f"page {page} of {self.total} is not taken"
