"""Limits: what one side of a Link takes from the other."""

from __future__ import annotations

from dataclasses import dataclass

MAX_FAULT_LETTERS = 500  # of its message
MAX_WAIT_S = 86_400.0  # of a lease or of retry_after
MAX_DRAFTS = 64
MAX_STOP_IDS = 1024
DIGEST_BYTES = 16
LEAST_CHUNK_TOKENS = 2  # that anybody takes at once: what is sent again goes in Chunks that are answered
MAX_STEP = 1 << 31  # half of what the wire can number: whoever counts on from here has room
PAGE_TOKENS = 32  # positions of a Page, as digests count them


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that depend on the model are None where no model is known yet."""

    hidden_size: int | None = None
    vocab_size: int | None = None
    max_entries: int = 4096  # of one Frame
    max_chunk_tokens: int = 4096
    max_tokens: int = 1 << 20  # of a Session
    max_history: int = 1 << 20  # tokens
    max_blocks: int = 4096
    max_frame_bytes: int = 64 << 20
