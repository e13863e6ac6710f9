"""Values ↔ Frames. A Frame that breaks a limit is a BadRequest of the whole Link; an entry that breaks one becomes
Rejected, so that only its Session hears of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from proto import shoal_pb2 as pb
from proto.decoding import decode_entry
from proto.encoding import encode_entry
from proto.limits import Limits
from proto.messages import Entry, Rejected
from proto.scan import scan
from swarm.errors import BadRequest

SMALL_BYTES = 16 << 10  # what so few bytes may become when unpacked does no harm


def encode(entries: Sequence[Entry]) -> pb.Frame:
    """One Frame with all of ``entries``, in order. They are our own, hence not checked."""
    return pb.Frame(entries=[encode_entry(entry) for entry in entries])


def decode(frame: pb.Frame | bytes, limits: Limits) -> list[Entry | Rejected]:
    """The entries of a Frame, or of its bytes. Raises BadRequest when it is none or has too many.

    Bytes are the safer way in: a Frame that is nothing but a bomb is then refused before protobuf unpacks it.
    """
    if isinstance(frame, bytes):
        if len(frame) > min(SMALL_BYTES, limits.max_frame_bytes):
            scan(frame, limits.max_frame_bytes, limits.max_entries)
        try:
            frame = pb.Frame.FromString(frame)
        except DecodeError:
            raise BadRequest("not a frame: protobuf cannot read it") from None
    if len(frame.entries) > limits.max_entries:
        raise BadRequest(f"frame has {len(frame.entries)} entries, at most {limits.max_entries} are taken")
    return [decode_entry(entry, limits) for entry in frame.entries]
