"""PeerInfo ↔ its message. Knows every limit a stranger's claim is held to; nothing about where the bytes come from."""

from __future__ import annotations

import math
import re

from proto import shoal_pb2 as pb
from swarm.address import Address
from swarm.errors import BadRequest, UsageError
from swarm.peerinfo import ModelRef, PeerInfo, PeerState
from swarm.span import Span

MAX_TEXT = 64  # letters of a version or of the name of a profile

PEER_ID = re.compile(r"[0-9a-f]{32}")


def encode_info(info: PeerInfo) -> pb.PeerInfo:
    return pb.PeerInfo(
        peer_id=info.peer_id,
        instance=info.instance,
        model=info.model.name,
        fingerprint=info.model.fingerprint,
        num_blocks=info.model.num_blocks,
        span=pb.SpanRange(start=info.span.start, end=info.span.end),
        address=info.address,
        profile=info.profile,
        state=info.state,
        version=info.version,
        kv_tokens=info.kv_tokens,
        kv_tokens_free=info.kv_tokens_free,
        sessions=info.sessions,
        queue_tokens=info.queue_tokens,
        block_s=info.block_s,
        expires_at=info.expires_at,
        name=info.name,
        public_address=info.public_address,
    )


def decode_info(message: pb.PeerInfo) -> PeerInfo:
    """The value behind ``message``. Raises BadRequest for anything that an honest Peer would not say.

    Text must be printable: it ends up on terminals and dashboards, where a stranger's escape codes have no business.
    """
    if not PEER_ID.fullmatch(message.peer_id):
        raise BadRequest(f"peer_id must be 32 hex digits, not {message.peer_id[:40]!r}")
    who = f"peer {message.peer_id[:8]}"
    try:
        port = Address.parse(message.address).port
    except UsageError as error:
        raise BadRequest(f"{who}: {error}") from error
    if port == 0:
        raise BadRequest(f"{who} gives an address that cannot be dialled: {message.address}")
    for name, text in (("profile", message.profile), ("version", message.version)):
        if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
            raise BadRequest(f"{who}: {name} must be 1..{MAX_TEXT} printable letters, not {text[:MAX_TEXT]!r}")
    if not message.model.isprintable():
        raise BadRequest(f"{who}: the model's name must be printable, not {message.model[:40]!r}")
    if not math.isfinite(message.expires_at):
        raise BadRequest(f"{who}: expires_at is {message.expires_at}")
    try:
        return PeerInfo(
            peer_id=message.peer_id,
            instance=message.instance,
            model=ModelRef(message.model, message.fingerprint, message.num_blocks),
            span=Span(message.span.start, message.span.end),
            address=message.address,
            profile=message.profile,
            state=PeerState(message.state),
            version=message.version,
            kv_tokens=message.kv_tokens,
            kv_tokens_free=message.kv_tokens_free,
            sessions=message.sessions,
            queue_tokens=message.queue_tokens,
            block_s=message.block_s,
            expires_at=message.expires_at,
            name=message.name,
            public_address=message.public_address,
        )
    except (UsageError, ValueError) as error:  # ValueError: a state that this version does not know
        raise BadRequest(f"{who}: {error}") from error
