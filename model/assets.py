"""The small files beside the weights that a client needs: tokenizer, chat template, generation defaults. Bytes with a
digest; of the tokenizer also whether it is one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import CorruptCheckpoint

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
ASSET_NAMES = (
    "config.json",
    "generation_config.json",
    TOKENIZER,
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


def check_tokenizer(assets: Iterable[Asset], name: str) -> None:
    """Raises CorruptCheckpoint when the tokenizer.json of the model ``name`` cannot be read: every client would fail on
    it. Without one it is only logged, since token ids still work.
    """
    from tokenizers import Tokenizer

    data = next((asset.data for asset in assets if asset.name == TOKENIZER), None)
    if data is None:
        log.warning("%s has no %s; clients have to give and take token ids", name, TOKENIZER)
        return
    try:
        Tokenizer.from_str(data.decode())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 — tokenizers raises nothing narrower; a panic in it is not even an Exception
        said = " ".join(str(error).split())
        raise CorruptCheckpoint(f"the {TOKENIZER} of {name} cannot be read: {said:.200}") from None
