"""The whole model in this process, without network: what decode.py asks of us. ``python -m benchmarks.kit.shoal_worker
CHECKPOINT CACHE THREADS TOKENS``.

KV before the measured position is random: what it holds does not change the time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from benchmarks.kit.machine import BUFFER_BYTES, ReadBandwidth
from benchmarks.kit.workers import quiet_stdout, serve
from kernels import select
from kernels.types import PAGE_SIZE, SeatRows
from model.config import read_config
from model.source import open_source
from model.span_model import SpanModel

TOKEN = 300


class Contestant:
    def __init__(self, checkpoint: Path, cache: Path, threads: int, tokens: int, buffer_bytes: int = BUFFER_BYTES):
        torch.set_num_threads(threads)
        source = open_source(str(checkpoint))
        config = read_config(source.directory, source.name)
        self.pages = tuple(range(-(-tokens // PAGE_SIZE)))
        arithmetic = select(threads=threads)
        self.model = SpanModel.load(
            source, config, config.span, "c8", len(self.pages), cache, threads=threads, kernels=arithmetic
        )
        self.bandwidth = ReadBandwidth(arithmetic, threads, buffer_bytes)
        generator = torch.Generator().manual_seed(0)
        for block in config.span:
            for pages in (self.model.kv.k(block), self.model.kv.v(block)):
                pages.copy_(torch.randn(pages.shape, generator=generator))

    def decode(self, context: int, steps: int) -> float:
        """Seconds a token: embedding, Blocks, Head, the largest logit."""
        token, begun = TOKEN, time.perf_counter()
        for position in range(context, context + steps):
            x = self._run([token], position)
            token = int(self.model.logits(x).argmax())
        return (time.perf_counter() - begun) / steps

    def prefill(self, tokens: int) -> float:
        """Seconds of a prompt in one Chunk, with the logits of its last token."""
        ids = [TOKEN + index % 64 for index in range(tokens)]
        begun = time.perf_counter()
        self.model.logits(self._run(ids, 0)[-1:])
        return time.perf_counter() - begun

    def logits(self, tokens: int) -> list[float]:
        """Of the last token of a prompt, to see that all contestants have the same model."""
        ids = [TOKEN + index % 64 for index in range(tokens)]
        return self.model.logits(self._run(ids, 0)[-1:])[0].tolist()

    def read(self) -> float:
        """Seconds a byte of plain reading."""
        return self.bandwidth.seconds() / self.bandwidth.nbytes

    def about(self) -> dict[str, str]:
        return {"isa": self.model.arithmetic, "read_how": self.bandwidth.how}

    def _run(self, ids: list[int], position: int) -> torch.Tensor:
        seats = [SeatRows(self.pages, position, len(ids))]
        return self.model.run(self.model.span, self.model.embed(ids), seats)


def main() -> None:
    quiet_stdout()
    checkpoint, cache, threads, tokens = sys.argv[1:]
    it = Contestant(Path(checkpoint), Path(cache), int(threads), int(tokens))
    serve({name: getattr(it, name) for name in ("decode", "prefill", "logits", "read", "about")})


if __name__ == "__main__":
    main()
