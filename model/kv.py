"""The memory behind a Peer's Pages: keys and values of every Block of its Span. Knows no Seats; who owns which Page is
the PagePool's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kernels.types import PAGE_SIZE
from model.config import ModelConfig
from swarm.profile import Profile
from swarm.span import Span

HOST = torch.device("cpu")


class KVCache:
    """``k(block)`` and ``v(block)`` are [pages, kv_heads, PAGE_SIZE, head_dim], FP16 in c8 and FP32 in f32: the
    tokens that a head reads of a Page lie side by side.

    On the host, memory is only touched where Pages are used: numpy's zeros come from the operating system, page by
    page, where torch's would be written at once. On a GPU all of it is taken at the start.
    """

    def __init__(self, config: ModelConfig, span: Span, num_pages: int, profile: Profile, device: torch.device = HOST):
        dtype = np.float16 if profile == "c8" else np.float32
        shape = (len(span), 2, num_pages, config.num_kv_heads, PAGE_SIZE, config.head_dim)
        self.span, self.num_pages = span, num_pages
        if device == HOST:
            self._store = torch.from_numpy(np.zeros(shape, dtype))
        else:
            kind = torch.float16 if profile == "c8" else torch.float32
            self._store = torch.zeros(shape, dtype=kind, device=device)

    def k(self, block: int) -> Tensor:
        return self._store[block - self.span.start, 0]

    def v(self, block: int) -> Tensor:
        return self._store[block - self.span.start, 1]

    def copy_page(self, source: int, target: int) -> None:
        """In all Blocks."""
        self._store[:, :, target] = self._store[:, :, source]

    def read_pages(self, pages: Sequence[int]) -> memoryview:
        """A copy of these Pages, in all Blocks, on the host: ``len(pages) * page_bytes`` bytes."""
        rows = self._store[:, :, list(pages)].cpu().contiguous()  # [blocks, 2, pages, kv_heads, PAGE_SIZE, head_dim]
        return rows.numpy().reshape(-1).view(np.uint8).data

    def write_pages(self, pages: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        """What ``read_pages`` of as many Pages gave goes into these, which may be others."""
        size = memoryview(data).nbytes
        assert size == len(pages) * self.page_bytes, f"{size} bytes for {len(pages)} pages of {self.page_bytes}"
        blocks, kinds, _, *page = self._store.shape
        flat = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        self._store[:, :, list(pages)] = (
            flat.view(self._store.dtype).view(blocks, kinds, len(pages), *page).to(self._store.device)
        )

    @property
    def page_bytes(self) -> int:
        """What one Page takes in all Blocks."""
        return self.nbytes // self.num_pages

    @property
    def nbytes(self) -> int:
        return self._store.numel() * self._store.element_size()


def kv_bytes_per_token(config: ModelConfig, span: Span, profile: Profile) -> int:
    """What one token slot costs in all Blocks of ``span``."""
    return len(span) * 2 * config.kv_size * (2 if profile == "c8" else 4)
