"""A look at a Frame's bytes before protobuf unpacks them.

Two bytes make an empty message, which takes about sixty when unpacked: 64 MiB of them would become 1.8 GiB. So entries
are counted first, and everything in the Frame that is not the payload of a Chunk, whose insides cannot grow like
that, is held to a few MiB: Opens too, whose token ids grow fourfold and take long to check. What passes is unpacked
into at most a few times its own size.
"""

from __future__ import annotations

from proto import shoal_pb2 as pb
from swarm.errors import BadRequest

MAX_CONTROL_BYTES = 4 << 20  # of one Frame: all but the payloads of Chunks

_ENTRIES = pb.Frame.ENTRIES_FIELD_NUMBER
_CHUNK = pb.Entry.CHUNK_FIELD_NUMBER
_SMALL = 64  # bytes of an entry that need no closer look
_MAX_FIELDS = 32  # of one entry, and beside the entries of a Frame: it has three, later versions may add some


def scan(data: bytes, max_bytes: int, max_entries: int) -> None:
    """Raises BadRequest when ``data`` is too long, has too many entries, or is not shaped like a Frame."""
    if len(data) > max_bytes:
        raise BadRequest(f"frame has {len(data)} bytes, at most {max_bytes} are taken")
    entries = others = payload = at = 0
    while at < len(data):
        number, start, at = _field(data, at, len(data))
        if number != _ENTRIES or start is None:
            others += 1
        else:
            entries += 1
            payload += _payload(data, start, at) if at - start > _SMALL else 0
        if entries > max_entries or others > _MAX_FIELDS:
            raise BadRequest(f"frame has more than {max_entries} entries or {_MAX_FIELDS} unknown fields")
    if len(data) - payload > MAX_CONTROL_BYTES:
        raise BadRequest(
            f"frame has {len(data) - payload} bytes beside its chunks, at most {MAX_CONTROL_BYTES} are taken"
        )


def _payload(data: bytes, at: int, end: int) -> int:
    """Bytes of the Chunks in the entry that lies at ``at`` .. ``end``."""
    total = 0
    for _ in range(_MAX_FIELDS):
        if at == end:
            return total
        number, start, at = _field(data, at, end)
        if start is not None and number == _CHUNK:
            total += at - start
    raise BadRequest(f"frame has an entry of {_MAX_FIELDS} fields or more")


def _field(data: bytes, at: int, end: int) -> tuple[int, int | None, int]:
    """The field that begins at ``at``: its number, where its payload begins (None: not bytes), where it ends."""
    key, at = _varint(data, at, end)
    start = None
    match key & 7:
        case 0:
            _, at = _varint(data, at, end)
        case 1:
            at += 8
        case 2:
            size, start = _varint(data, at, end)
            at = start + size
        case 5:
            at += 4
        case other:
            raise BadRequest(f"not a frame: wire type {other}")
    if at > end:
        raise BadRequest("not a frame: a field is longer than what is left")
    return key >> 3, start, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise BadRequest("not a frame: it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise BadRequest("not a frame: a number has more than 10 bytes")
