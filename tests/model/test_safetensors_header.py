import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from model.safetensors_header import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    TensorEntry,
    build_header,
    header_length,
    parse_header,
)
from swarm.errors import CorruptCheckpoint


def parse(data: bytes):
    length = header_length(data[:LENGTH_BYTES], "f", len(data))
    return parse_header(data[LENGTH_BYTES : LENGTH_BYTES + length], "f", len(data))


def header(**fields) -> bytes:
    return json.dumps(fields).encode()


def field(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_a_file_of_the_library_is_read():
    tensors = {
        "b": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
        "a": torch.ones(5, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
    }
    data = save(tensors, {"format": "pt"})
    entries, metadata = parse(data)
    assert metadata == {"format": "pt"}
    assert {name: (entry.dtype, entry.shape) for name, entry in entries.items()} == {
        "b": ("BF16", (2, 3)),
        "a": ("I64", (5,)),
        "empty": ("F32", (0, 4)),
    }
    assert torch.frombuffer(bytearray(data[entries["a"].start : entries["a"].end]), dtype=torch.int64).equal(
        tensors["a"]
    )


def test_a_built_header_parses_and_aligns_the_data():
    built = build_header({"x": ("F16", (3, 2)), "y": ("I8", (5,))}, {"k": "v"})
    assert len(built) % 64 == 0
    entries, metadata = parse(built + bytes(17))
    start = len(built)
    assert entries == {
        "x": TensorEntry("F16", (3, 2), "f", start, start + 12),
        "y": TensorEntry("I8", (5,), "f", start + 12, start + 17),
    }
    assert metadata == {"k": "v"}


@pytest.mark.parametrize("data", [b"", b"\x01", bytes(7)])
def test_a_file_without_room_for_a_length_is_corrupt(data):
    with pytest.raises(CorruptCheckpoint, match="too few"):
        header_length(data, "f", len(data))


def test_a_header_longer_than_the_file_or_than_any_limit_is_corrupt():
    with pytest.raises(CorruptCheckpoint, match="truncated"):
        header_length((1000).to_bytes(8, "little"), "f", 100)
    with pytest.raises(CorruptCheckpoint, match=f"no more than {MAX_HEADER_BYTES}"):
        header_length((MAX_HEADER_BYTES + 1).to_bytes(8, "little"), "f", 1 << 60)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xff",
        b"[" * 50_000,
        header(t=1),
        header(t={}),
        header(t={**field(), "data_offsets": [0]}),
        header(t={**field(), "data_offsets": "ab"}),
        header(t={**field(), "shape": 2}),
        header(t={**field(), "dtype": 32}),
        header(t=field(shape=(-2,))),
        header(t=field(shape=(2.0,))),
        header(t=field(shape=(1,) * 9)),
        header(t=field(offsets=(8, 0))),
        header(t=field(offsets=(-8, 0))),
        header(t=field(shape=(3,))),  # 12 bytes in 8
        header(t=field(shape=(2**62, 4))),
        header(t=field(offsets=(4, 12))),  # a hole before it
        header(a=field(), b=field(offsets=(4, 12))),  # overlap
        header(a=field(), b=field(offsets=(16, 24))),  # a hole between
    ],
)
def test_a_header_that_does_not_add_up_is_corrupt(text):
    with pytest.raises(CorruptCheckpoint, match=r"^f\b"):
        parse_header(text, "f", LENGTH_BYTES + len(text) + 8)


@pytest.mark.parametrize(
    ("text", "data_bytes"),
    [(header(t=field(offsets=(4, 12))), 12), (header(a=field(), b=field(offsets=(4, 12))), 12)],
)
def test_holes_and_overlaps_are_corrupt_where_all_else_adds_up(text, data_bytes):
    with pytest.raises(CorruptCheckpoint, match="starts at byte"):
        parse_header(text, "f", LENGTH_BYTES + len(text) + data_bytes)


def test_a_file_that_ends_early_or_late_is_corrupt():
    text = header(t=field())
    parse_header(text, "f", LENGTH_BYTES + len(text) + 8)
    with pytest.raises(CorruptCheckpoint, match="truncated"):
        parse_header(text, "f", LENGTH_BYTES + len(text) + 7)
    with pytest.raises(CorruptCheckpoint, match="damaged"):
        parse_header(text, "f", LENGTH_BYTES + len(text) + 9)


@given(st.binary(max_size=200), st.integers(0, 1 << 40))
def test_no_bytes_raise_anything_but_a_corrupt_checkpoint(data, size):
    try:
        header_length(data[:LENGTH_BYTES], "f", size)
        parse_header(data[LENGTH_BYTES:], "f", size)
    except CorruptCheckpoint:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_json_raises_anything_but_a_corrupt_checkpoint(value):
    try:
        parse_header(json.dumps({"t": value}).encode(), "f", 100)
    except CorruptCheckpoint:
        pass
