"""The header of a safetensors file, read with suspicion and written back. Knows no tensors and no I/O: bytes in, a
table out.

A file is eight bytes (the header's length n, little-endian), n bytes of JSON ``{name: {dtype, shape, data_offsets}}``,
and the data. The offsets count from the end of the header, leave no holes and do not overlap. A header comes from a
stranger, and says how much will be read and allocated, so everything in it is checked against the file's size first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from swarm.errors import CorruptCheckpoint

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
MAX_DIMENSIONS = 8
METADATA = "__metadata__"

ITEMSIZE = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies: bytes ``start`` up to ``end`` of ``file``."""

    dtype: str  # as safetensors writes it: "BF16", "F16", "F32", …
    shape: tuple[int, ...]
    file: str
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


def header_length(first: bytes, file: str, file_size: int) -> int:
    """The header's length from a file's first eight bytes. Raises CorruptCheckpoint when it cannot be one."""
    if len(first) < LENGTH_BYTES or file_size < LENGTH_BYTES:
        raise CorruptCheckpoint(f"{file} has {file_size} bytes, too few for a safetensors file")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise CorruptCheckpoint(
            f"{file} is no safetensors file: its header claims {length} bytes, expected no more than {MAX_HEADER_BYTES}"
        )
    if LENGTH_BYTES + length > file_size:
        raise CorruptCheckpoint(f"{file} is truncated: its header claims {length} bytes, the file has {file_size}")
    return length


def parse_header(header: bytes, file: str, file_size: int) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The tensors by name, and the free-form metadata. Raises CorruptCheckpoint on anything that does not add up."""
    try:
        written = json.loads(header)
    except (ValueError, RecursionError):
        raise CorruptCheckpoint(f"{file} is no safetensors file: its header is not JSON") from None
    if not isinstance(written, dict):
        raise CorruptCheckpoint(f"{file} is no safetensors file: its header is not a JSON object")
    metadata = written.pop(METADATA, None) or {}
    base = LENGTH_BYTES + len(header)
    entries = {name: _entry(name, fields, file, base) for name, fields in written.items()}
    reached, before = base, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != reached:
            raise CorruptCheckpoint(
                f"{file}: tensor {name!r} starts at byte {entry.start}, expected {reached}, where {before} ends"
            )
        reached, before = entry.end, repr(name)
    if reached != file_size:
        kind = "truncated" if reached > file_size else "damaged"
        raise CorruptCheckpoint(f"{file} is {kind}: its header speaks of {reached} bytes, the file has {file_size}")
    return entries, {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}


def build_header(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file, length included, that holds ``tensors`` (name → dtype, shape) in this order.

    The data then starts on a multiple of 64 bytes: a cache line, and the widest vector there is.
    """
    fields: dict[str, Any] = {METADATA: dict(metadata)}
    reached = 0
    for name, (dtype, shape) in tensors.items():
        end = reached + ITEMSIZE[dtype] * prod(shape)
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [reached, end]}
        reached = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % 64)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _entry(name: str, fields: Any, file: str, base: int) -> TensorEntry:
    try:
        dtype, shape, (start, end) = fields["dtype"], fields["shape"], fields["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise CorruptCheckpoint(f"{file}: tensor {name!r} lacks dtype, shape or data_offsets") from None
    if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise CorruptCheckpoint(f"{file}: tensor {name!r} has an impossible dtype or shape")
    if not all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in (*shape, start, end)
    ):
        raise CorruptCheckpoint(f"{file}: tensor {name!r} has a shape or offsets that are not counts")
    if dtype in ITEMSIZE and ITEMSIZE[dtype] * prod(shape) != end - start:
        expected = ITEMSIZE[dtype] * prod(shape)
        raise CorruptCheckpoint(
            f"{file}: tensor {name!r} of {dtype} {shape} takes {expected} bytes, its offsets say {end - start}"
        )
    return TensorEntry(dtype, tuple(shape), file, base + start, base + end)
