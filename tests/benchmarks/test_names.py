from __future__ import annotations

import importlib

from benchmarks.__main__ import NAMES


def test_every_name_is_a_benchmark_that_says_how_it_is_started():
    assert {"block", "decode", "footprint", "kernels", "perplexity", "swarm"} <= set(NAMES)
    for name in NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        assert callable(module.main)
        assert f"python -m benchmarks.{name}" in (module.__doc__ or "")
