"""Compiles, for a GPU that need not be there, every kernel that a decode step and a long Chunk launch; prints for each
its name and the instructions of its PTX, as one JSON line.

    python -m tests.support.compile_kernels 80

A process of its own, because in the tests' process Triton is an interpreter.
"""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels import triton_attention, triton_linear, triton_rows
from kernels.cuda import Cuda
from kernels.types import PAGE_SIZE, BatchRows, BlockShape, Linear, Quantized, SeatRows

TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.int8: "*i8", torch.int32: "*i32", torch.int64: "*i64"}
CAPABILITY = int(sys.argv[1]) if len(sys.argv) > 1 else 80


def compile_instead(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """What ``launch`` would have run, compiled as it would have been."""
    values = dict(zip(kernel.arg_names, arguments, strict=False)) | options
    signature, constants, aligned = {}, {}, {}
    for parameter in kernel.params:
        value = values.pop(parameter.name)
        one = isinstance(value, int) and value == 1 and not parameter.do_not_specialize
        if parameter.is_constexpr or one:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        tensor = isinstance(value, torch.Tensor)
        signature[parameter.name] = TYPES[value.dtype] if tensor else "fp32" if isinstance(value, float) else "i32"
        if tensor or (isinstance(value, int) and value % 16 == 0 and not parameter.do_not_specialize):
            aligned[(parameter.num,)] = [["tt.divisibility", 16]]
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, aligned),
        target=GPUTarget("cuda", CAPABILITY, 32),
        options={**values, "enable_fp_fusion": False},
    )
    instructions = sorted(set(re.findall(r"^\s*(?:@!?%\w+ )?([a-z][\w.:]*)", compiled.asm["ptx"], re.M)))
    print(json.dumps({"kernel": kernel.__name__, "instructions": instructions}), flush=True)


def linear(out: int, width: int, bias: bool) -> Linear:
    integers, scale = torch.zeros(out, width, dtype=torch.int8), torch.zeros(out, width // 64).half()
    return Linear(integers, scale, torch.zeros(out) if bias else None, width)


def main() -> None:
    for module in (triton_attention, triton_linear, triton_rows):
        vars(module)["launch"] = compile_instead
    kernels, head_dim = Cuda(torch.device("cpu")), 64
    norm = torch.ones(128)
    weights = SimpleNamespace(
        norm1=norm, qkv=linear(8 * head_dim, 128, True), q_norm=torch.ones(head_dim), k_norm=torch.ones(head_dim),
        o=linear(128, 4 * head_dim, False), norm2=norm, gate_up=linear(256, 128, True), down=linear(128, 128, False),
    )  # fmt: skip
    shape, rows = BlockShape(4, 2, head_dim, 1e-5, window=40, softcap=30.0), BatchRows.of([SeatRows((0, 1), 40, 1)])
    pages, angles = torch.zeros(2, 2, PAGE_SIZE, head_dim).half(), torch.zeros(1, head_dim // 2)
    kernels.block(torch.zeros(1, 128), weights, shape, rows, angles, angles, pages, pages)
    many = Quantized(torch.zeros(200, 128, dtype=torch.int8), torch.zeros(200, 2))
    kernels.linear(many, weights.down)
    kernels.embedding_rows(weights.down, torch.zeros(1, dtype=torch.int64))


if __name__ == "__main__":
    main()
