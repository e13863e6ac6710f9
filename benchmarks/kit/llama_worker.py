"""llama.cpp in this process, through its C functions as llama-bench calls them: what decode.py asks of the yardstick.
``python -m benchmarks.kit.llama_worker GGUF THREADS TOKENS``. Needs ``llama-cpp-python`` (extra ``bench``).
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.workers import quiet_stdout, serve

TOKEN = 300
MOST_ROWS = 512  # computed at a time


def can_run() -> bool:
    return find_spec("llama_cpp") is not None


class Contestant:
    def __init__(self, path: Path, threads: int, tokens: int):
        self.cpp: Any = importlib.import_module("llama_cpp")
        self.cpp.llama_backend_init()
        model_params = self.cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        model = self.cpp.llama_model_load_from_file(str(path).encode(), model_params)
        assert model, f"llama.cpp cannot read {path}"
        params = self.cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = tokens, MOST_ROWS, MOST_ROWS
        params.n_threads = params.n_threads_batch = threads
        self.context = self.cpp.llama_init_from_model(model, params)
        assert self.context, f"llama.cpp cannot make a context of {tokens} tokens"
        self.vocab = self.cpp.llama_vocab_n_tokens(self.cpp.llama_model_get_vocab(model))

    def decode(self, context: int, steps: int) -> float:
        """Seconds a token, its largest logit included, after ``context`` tokens that are not counted."""
        self._remember(context)
        token, begun = TOKEN, time.perf_counter()
        for _ in range(steps):
            self._run([token])
            token = int(self._last_logits().argmax())
        return (time.perf_counter() - begun) / steps

    def prefill(self, tokens: int) -> float:
        self._forget()
        ids = [TOKEN + index % 64 for index in range(tokens)]
        begun = time.perf_counter()
        self._run(ids)
        return time.perf_counter() - begun

    def logits(self, tokens: int) -> list[float]:
        self._forget()
        self._run([TOKEN + index % 64 for index in range(tokens)])
        return self._last_logits().tolist()

    def about(self) -> dict[str, str]:
        info = self.cpp.llama_print_system_info()
        return {"version": self.cpp.__version__, "system": info.decode()}

    def _run(self, ids: list[int]) -> None:
        for start in range(0, len(ids), MOST_ROWS):
            some = ids[start : start + MOST_ROWS]
            tokens = (self.cpp.llama_token * len(some))(*some)
            failed = self.cpp.llama_decode(self.context, self.cpp.llama_batch_get_one(tokens, len(some)))
            assert not failed, f"llama_decode said {failed}"
        self.cpp.llama_synchronize(self.context)

    def _remember(self, context: int) -> None:
        """``context`` tokens and no more; what is there already is kept."""
        memory = self.cpp.llama_get_memory(self.context)
        if self.cpp.llama_memory_seq_pos_max(memory, 0) + 1 < context:
            self._forget()
            self._run([TOKEN + index % 64 for index in range(context)])
        assert self.cpp.llama_memory_seq_rm(memory, 0, context, -1), "llama.cpp cannot forget a part"

    def _forget(self) -> None:
        self.cpp.llama_memory_clear(self.cpp.llama_get_memory(self.context), False)

    def _last_logits(self) -> np.ndarray:
        pointer = ctypes.cast(self.cpp.llama_get_logits_ith(self.context, -1), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (self.vocab,))


def main() -> None:
    quiet_stdout()
    path, threads, tokens = sys.argv[1:]
    it = Contestant(Path(path), int(threads), int(tokens))
    serve({name: getattr(it, name) for name in ("decode", "prefill", "logits", "about")})


if __name__ == "__main__":
    main()
