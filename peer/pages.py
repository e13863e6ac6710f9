"""PagePool: which Pages of the KV cache are taken. Integers only; knows nothing of Seats, tensors or tokens."""

from __future__ import annotations

from collections.abc import Iterable

from swarm.errors import Refused

RETRY_AFTER_S = 2.0  # when to ask again for what is taken now; Sessions last seconds to minutes


class PagePool:
    """Pages ``0 … num_pages-1``, each free or taken by exactly one owner. The one freed last is taken first."""

    def __init__(self, num_pages: int):
        assert num_pages > 0, num_pages
        self.total = num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._is_free = bytearray(b"\x01" * num_pages)

    @property
    def used(self) -> int:
        return self.total - len(self._free)

    @property
    def free(self) -> int:
        return len(self._free)

    def reserve(self, count: int) -> tuple[int, ...]:
        """Take ``count`` Pages, all or none. Raises Refused; without a retry time if it can never fit."""
        assert count > 0, count
        if count > self.total:
            raise Refused(f"{count} pages wanted, this peer has {self.total} in all; ask for fewer tokens")
        if count > len(self._free):
            raise Refused(f"{count} pages wanted, {len(self._free)} of {self.total} are free now", RETRY_AFTER_S)
        pages = tuple(self._free[: -count - 1 : -1])
        del self._free[-count:]
        for page in pages:
            self._is_free[page] = 0
        return pages

    def release(self, pages: Iterable[int]) -> None:
        """Give Pages back. A Page that is not taken is our own mistake."""
        for page in sorted(pages, reverse=True):
            assert 0 <= page < self.total and not self._is_free[page], f"page {page} of {self.total} is not taken"
            self._is_free[page] = 1
            self._free.append(page)
