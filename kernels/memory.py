"""Memory for weights, in huge pages. Knows no matrix.

Decoding reads every weight once a token, forward, and a core's prefetcher stops at the end of a page. From pages of 4
KiB that lie anywhere one core read 17 GB/s here, from a mapped file 18 to 22, from huge pages 28 to 31: a token a third
sooner. So what a cache file holds is read into huge pages where the system has them, rather than mapped.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

import torch
from torch import Tensor

HUGE_PAGE_BYTES = 2 << 20


def huge(count: int) -> Tensor | None:
    """uint8 [count], zero, taken from the system where it is touched, in huge pages as far as it has them.

    None where it knows none, or less than one is wanted.
    """
    if count < HUGE_PAGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    whole = -(-count // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES  # or the rest would lie in small pages
    memory = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel built without them
        with suppress(BufferError):
            memory.close()
        return None
    return torch.frombuffer(memory, dtype=torch.uint8)[:count]
