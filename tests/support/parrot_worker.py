"""A worker for the tests of workers: it says what it is asked to say, prints beside it, and can fall over."""

from __future__ import annotations

import os
import sys

from benchmarks.kit.workers import quiet_stdout, serve


def say(words: str) -> str:
    print("a library's greeting")
    return words


def fall(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
    os._exit(3)


if __name__ == "__main__":
    quiet_stdout()
    serve({"say": say, "fall": fall, "arguments": lambda: sys.argv[1:]})
