"""Assets: the model's small text files, fetched from peers once, checked by digest, kept on disk within a bound.

One directory holds one model's set of files, named by the digest of that set, so two models never mix and a peer
can only ever add what the client asked for by digest. The longest unused directories go when the bound is passed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from proto.messages import AssetRef
from swarm.errors import BadRequest

# What clients have a use for. Whatever else a peer may list is not even asked for.
WANTED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "generation_config.json", "config.json",
)  # fmt: skip
MAX_SET_BYTES = 64 << 20

Fetch = Callable[[AssetRef], Awaitable[bytes]]


class AssetStore:
    """A directory of such directories. One that cannot be written is replaced by a temporary one."""

    def __init__(self, directory: Path, max_bytes: int):
        self._directory = directory
        self._max_bytes = max_bytes
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    async def collect(self, refs: Sequence[AssetRef], fetch: Fetch) -> Path:
        """The directory with the wanted ones of ``refs``; only what is missing or damaged is fetched.

        Raises BadRequest for a list or a file that is not what it claims, and whatever ``fetch`` raises.
        """
        wanted = sorted((ref for ref in refs if ref.name in WANTED), key=lambda ref: ref.name)
        total = sum(ref.size for ref in wanted)
        if total > MAX_SET_BYTES or len({ref.name for ref in wanted}) != len(wanted):
            raise BadRequest(
                f"assets of {total} bytes in {len(wanted)} files, expected one of each name and at most {MAX_SET_BYTES}"
            )
        name = hashlib.sha256("\n".join(f"{ref.name} {ref.sha256}" for ref in wanted).encode()).hexdigest()[:32]
        directory = self._writable() / name
        directory.mkdir(exist_ok=True)
        for ref in wanted:
            path = directory / ref.name
            if not _is(path, ref):
                data = await fetch(ref)
                if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
                    raise BadRequest(f"asset {ref.name} came with other bytes than its digest promised")
                _write(path, data)
        os.utime(directory)
        self._evict(directory)
        return directory

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def _writable(self) -> Path:
        if self._temporary is not None:
            return Path(self._temporary.name)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if os.access(self._directory, os.W_OK):
                return self._directory
        except OSError:
            pass
        self._temporary = tempfile.TemporaryDirectory(prefix="shoal-assets-", ignore_cleanup_errors=True)
        return Path(self._temporary.name)

    def _evict(self, keep: Path) -> None:
        sets = sorted(
            (d for d in keep.parent.iterdir() if d.is_dir() and d != keep),
            key=lambda d: d.stat().st_mtime,
            reverse=True,
        )
        total = _bytes(keep)
        for directory in sets:
            total += _bytes(directory)
            if total > self._max_bytes:
                shutil.rmtree(directory, ignore_errors=True)


def _is(path: Path, ref: AssetRef) -> bool:
    try:
        return path.stat().st_size == ref.size and hashlib.sha256(path.read_bytes()).hexdigest() == ref.sha256
    except OSError:
        return False


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: another process may be reading."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
