"""Records: a PeerInfo as the bytes that strangers keep for us, and the keys they keep it under.

A Peer writes one record. It goes under every segment key (8 Blocks each) that its Span touches, with the peer_id as
subkey, so that a reader fetches a few keys for a whole model; and under the models key, with a digest of the model's
name and fingerprint as subkey, as a witness that somebody serves this model under this name.

A DHT believes whatever it is told, so every record is held to bounds when it is written and again when it is read.
Pure: no DHT here, and no clock but the ``now`` that is passed in.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from google.protobuf.message import DecodeError

from proto import shoal_pb2 as pb
from proto.peerinfo import decode_info, encode_info
from swarm.errors import BadRequest, UsageError
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.span import Span

TTL_S = 45.0  # what a Peer claims for itself
MAX_TTL_S = 120.0  # what anybody may claim
CLOCK_SKEW_S = 3.0  # by how much clocks may disagree; hivemind refuses peers that are further off
MAX_RECORD_BYTES = 4096
SEGMENT_BLOCKS = 8

MODELS_KEY = "shoal.v1/models"

_UNSIGNED = b"\x01"  # first byte of the envelope: what follows it


def segment_keys(model: ModelRef, span: Span) -> tuple[str, ...]:
    """The keys under which a Peer with ``span`` is found."""
    segments = range(span.start // SEGMENT_BLOCKS, (span.end - 1) // SEGMENT_BLOCKS + 1)
    return tuple(f"shoal.v1/{model.fingerprint}/{segment}" for segment in segments)


def model_subkey(model: ModelRef) -> str:
    """The subkey of a witness for ``model``: 32 hex digits, another one for every name of the same weights.

    Were it the fingerprint alone, whoever announces last would decide what the model is called.
    """
    return hashlib.sha256(f"{model.fingerprint}/{model.name}".encode(errors="surrogatepass")).hexdigest()[:32]


def seal(payload: bytes) -> bytes:
    """The envelope of a record. To come here: the Peer's public key and its signature over payload and expiry."""
    return _UNSIGNED + payload


def unseal(sealed: bytes) -> bytes:
    """What was sealed. Raises BadRequest for an envelope that this version does not know."""
    if sealed[:1] != _UNSIGNED:
        raise BadRequest(f"record in an unknown envelope {sealed[:1].hex() or '(empty)'}, expected {_UNSIGNED.hex()}")
    return sealed[1:]


def encode_record(info: PeerInfo, now: float) -> bytes:
    """The record of ``info``. Raises UsageError when readers would drop it: too large, or an expiry out of bounds."""
    if not now < info.expires_at <= now + MAX_TTL_S:
        raise UsageError(f"a record must expire within {MAX_TTL_S:g} s, not in {info.expires_at - now:.3f} s")
    record = seal(encode_info(info).SerializeToString())
    if len(record) > MAX_RECORD_BYTES:
        raise UsageError(f"a record may have {MAX_RECORD_BYTES} bytes, this one has {len(record)}")
    return record


def decode_record(record: bytes, expires_at: float, now: float) -> PeerInfo:
    """The PeerInfo in ``record``, which the DHT says to keep until ``expires_at``. Raises BadRequest for a bad one.

    The DHT's expiry has to be the record's own: storing a dead Peer's last words again does not keep it alive.
    """
    if len(record) > MAX_RECORD_BYTES:
        raise BadRequest(f"record has {len(record)} bytes, expected no more than {MAX_RECORD_BYTES}")
    if not now < expires_at <= now + MAX_TTL_S + CLOCK_SKEW_S:
        raise BadRequest(f"record expires in {expires_at - now:.3f} s, expected 0..{MAX_TTL_S:g}")
    try:
        message = pb.PeerInfo.FromString(unseal(record))
    except DecodeError as error:
        raise BadRequest(f"record is not a PeerInfo: {error}") from error
    info = decode_info(message)
    if info.expires_at != expires_at:
        raise BadRequest(f"{info} expires at {info.expires_at:.3f}, but was stored until {expires_at:.3f}")
    return info


def farewell(info: PeerInfo, last_expiry: float) -> PeerInfo:
    """The withdrawal of ``info``: GONE, and just late enough to replace every copy that expires by ``last_expiry``.

    No later than needed: a Peer that comes back at once must be able to outlive its own farewell.
    """
    return replace(info, state=PeerState.GONE, expires_at=max(info.expires_at, last_expiry) + 0.01)
