"""The small files beside the weights that a client needs: tokenizer, chat template, generation defaults. Bytes with a
digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import CorruptCheckpoint

ASSET_NAMES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
MAX_ASSET_BYTES = 48 << 20  # under the wire's message limit; the largest tokenizers have about 35 MB


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its name, the SHA-256 of its bytes as 64 hex digits, and the bytes."""

    name: str
    sha256: str
    data: bytes


def read_assets(directory: str | Path) -> tuple[Asset, ...]:
    """Those of ASSET_NAMES that ``directory`` has, in that order. Raises CorruptCheckpoint when one is too large or
    unreadable.
    """
    assets: list[Asset] = []
    for name in ASSET_NAMES:
        path = Path(directory) / name
        if not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                data = file.read(MAX_ASSET_BYTES + 1)
        except OSError as error:
            raise CorruptCheckpoint(f"cannot read {path}: {error.strerror or error}") from None
        if len(data) > MAX_ASSET_BYTES:
            raise CorruptCheckpoint(f"{path} has {path.stat().st_size} bytes, expected no more than {MAX_ASSET_BYTES}")
        assets.append(Asset(name, hashlib.sha256(data).hexdigest(), data))
    return tuple(assets)
