"""Does an implementation keep c8 on this machine? Small computations whose bits are written down, run on the spot.

A test can vouch for a processor that it ran on, not for the GPU, driver and compiler that a stranger has. So where
there is doubt, the Peer computes these before it announces a profile. They are chosen to show what usually goes wrong:
a fused multiply-add, subnormals that become zero, a division or root that is only nearly right, another order of a sum,
a row that depends on its tile.

Operands are made of integers by a hash, since torch's random numbers go through libm and differ between versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels.panels import Panels, pack
from kernels.types import GROUP, PAGE_SIZE, BatchRows, BlockShape, Linear, Quantized, SeatRows

if TYPE_CHECKING:
    from kernels import Kernels, Layout

WRITTEN_DOWN = {
    "prefill": "b4edcedb5832c093",
    "decode": "b78d9e8ba070b893",
    "pages": "569bf0e6d079aa4f",
    "norm": "10cd750c0ed16c22",
    "gate": "d75f786d4d5bb0a6",
    "quantised": "12b45dbd5885118a",
    "products": "1d3eff66017e65e5",
    "embedding": "39aaf908debe9e0e",
}  # the first 16 hexadecimal digits of SHA-256, little endian


def departures(kernels: Kernels, device: torch.device) -> list[str]:
    """The parts that do not have their written-down bits on ``device``. Empty: it keeps c8."""
    found = {name: _digest(tensors) for name, tensors in _parts(kernels, device)}
    return [name for name, digest in WRITTEN_DOWN.items() if found[name] != digest]


def _digest(tensors: tuple[Tensor, ...]) -> str:
    """NaN is one number here: which of them comes out is nobody's promise."""
    digest = hashlib.sha256()
    for tensor in tensors:
        there = tensor.detach().cpu().contiguous()
        if there.is_floating_point():
            there = torch.where(there.isnan(), torch.nan, there)
        digest.update(there.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _parts(kernels: Kernels, device: torch.device) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    make = _Operands(device, kernels.layout)
    hidden, inner, heads, kv_heads, head_dim = 100, 90, 3, 1, 40
    shape = BlockShape(heads, kv_heads, head_dim, 1e-5, window=34, softcap=20.0)
    weights = _Weights(
        make.floats(hidden),
        make.linear((heads + 2 * kv_heads) * head_dim, hidden, True),
        make.floats(head_dim),
        make.floats(head_dim),
        make.linear(hidden, heads * head_dim, False),
        make.floats(hidden),
        make.linear(2 * inner, hidden, True),
        make.linear(hidden, inner, False),
    )
    k_pages, v_pages = torch.zeros(2, 3, kv_heads, PAGE_SIZE, head_dim, dtype=torch.float16, device=device)

    def block(seats: list[SeatRows]) -> Tensor:
        rows = BatchRows.of(seats)
        cos, sin = make.floats(rows.count, head_dim // 2), make.floats(rows.count, head_dim // 2)
        return kernels.block(make.floats(rows.count, hidden), weights, shape, rows, cos, sin, k_pages, v_pages)

    yield "prefill", (block([SeatRows((2, 0), 29, 5), SeatRows((1,), 0, 2)]),)
    yield "decode", (block([SeatRows((1,), 2, 1), SeatRows((2, 0), 34, 1)]),)
    yield "pages", (k_pages, v_pages)

    wide = make.any_floats(18, 2 * hidden, most=60)
    normed = kernels.norm_quantize(wide, make.floats(2 * hidden), 1e-5, GROUP)
    yield "norm", (kernels.norm(make.floats(20, 150), make.floats(150), 1e-5), normed.values, normed.scale)
    gated = kernels.gated_quantize(wide, GROUP)
    usual = kernels.gated_quantize(make.floats(20, 2 * inner) * 8, GROUP)
    yield "gate", (gated.values, gated.scale, usual.values, usual.scale)
    plain = kernels.quantize(make.any_floats(70, hidden, most=127), GROUP)
    halves = kernels.quantize(make.halves(24, GROUP), GROUP)
    yield "quantised", (plain.values, plain.scale, halves.values, halves.scale)
    table = make.linear(130, hidden, False, subnormal=True)
    few = [(plain, 0, 70), (plain, 30, 70), (gated, 0, 18), (gated, 17, 18)]  # tiles of different sizes
    products = [kernels.linear(Quantized(q.values[start:end], q.scale[start:end]), table) for q, start, end in few]
    yield "products", tuple(products)
    ids = torch.arange(0, 130, 9, device=device)
    yield "embedding", (kernels.embedding_rows(table, ids),)


@dataclass(frozen=True, eq=False)
class _Weights:
    norm1: Tensor
    qkv: Linear | Panels
    q_norm: Tensor | None
    k_norm: Tensor | None
    o: Linear | Panels
    norm2: Tensor
    gate_up: Linear | Panels
    down: Linear | Panels


class _Operands:
    """Made on the host, one after the other, and moved to the device."""

    def __init__(self, device: torch.device, layout: Layout):
        self.device, self.layout = device, layout
        self._next = 1

    def integers(self, *shape: int, bound: int) -> Tensor:
        """int64 from -bound to bound, on the host."""
        count = torch.Size(shape).numel()
        x = torch.arange(self._next, self._next + count)
        self._next += count
        for factor, shift in ((0x9E3779B1, 15), (0x85EBCA77, 13), (0xC2B2AE3D, 16)):
            x = (x * factor) & 0xFFFFFFFF
            x = x ^ (x >> shift)
        return (x % (2 * bound + 1) - bound).view(shape)

    def floats(self, *shape: int) -> Tensor:
        """From -2 to 2."""
        return (self.integers(*shape, bound=1 << 20).float() / (1 << 19)).to(self.device)

    def any_floats(self, *shape: int, most: int) -> Tensor:
        """Of every magnitude below 2^most, zeros and subnormals among them; neighbours are of like magnitude."""
        mantissa = self.integers(*shape, bound=1 << 22).abs()
        exponent = torch.arange(shape[0]) * (most + 127) // shape[0]
        bits = (exponent.unsqueeze(1) << 23) | mantissa
        signed = torch.where(self.integers(*shape, bound=1) > 0, bits, bits - (1 << 31))
        return signed.int().view(torch.float32).to(self.device)

    def halves(self, rows: int, width: int) -> Tensor:
        """As near as can be to halfway between two integers once they are quantised."""
        amax = self.integers(rows, 1, bound=1 << 20).abs().float() / (1 << 19) + 1
        x = (self.integers(rows, width, bound=126).float() + 0.5) * (amax / 127)
        x[:, :1] = amax
        return x.to(self.device)

    def linear(self, out: int, width: int, bias: bool, subnormal: bool = False) -> Linear | Panels:
        groups = -(-width // GROUP)
        weight = torch.nn.functional.pad(self.integers(out, width, bound=127), (0, groups * GROUP - width))
        scale = (self.integers(out, groups, bound=400) + 500).float() / (1 << 16)
        if subnormal:  # as FP16, and times a small scale of the activations also as FP32
            scale = (self.integers(out, groups, bound=2) + 3).float() / (1 << 24)
        matrix = Linear(
            weight.to(torch.int8).to(self.device),
            scale.half().to(self.device),
            self.floats(out) if bias else None,
            width,
        )
        return matrix if self.layout == "rows" else pack(matrix)
