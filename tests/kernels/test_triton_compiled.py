"""The kernels as a GPU's compiler sees them. No GPU is needed to compile, so every machine can look at the result."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What would break the definition: fused or approximate operations, subnormals flushed to zero.
FORBIDDEN = re.compile(r"fma\b.*|mad\.(rn|f)\b.*|.*\.ftz\b.*|.*\.approx\b.*|div\.full\b.*|.*\.(rz|rm|rp)\.f(16|32)$")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: shoal[cuda]")
def test_no_kernel_fuses_approximates_or_flushes(tmp_path: Path):
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.compile_kernels", "80"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    names = {kernel["kernel"] for kernel in compiled}
    assert names == {"_attention_kernel", "_embedding_kernel", "_heads_kernel", "_linear_kernel", "_quantize_kernel"}
    for kernel in compiled:
        wrong = [i for i in kernel["instructions"] if FORBIDDEN.fullmatch(i)]
        assert not wrong, f"{kernel['kernel']}: {wrong}"
    every = {instruction for kernel in compiled for instruction in kernel["instructions"]}
    assert {"mul.rn.f32", "add.rn.f32", "sub.rn.f32", "div.rn.f32", "sqrt.rn.f32"} <= every
    assert any(instruction.startswith("mma.sync") and "s8.s8" in instruction for instruction in every)
