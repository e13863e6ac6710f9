"""Assets: the model's small text files, fetched from peers once, checked by digest, kept on disk within a bound.

One directory holds one model's set of files, named by the digest of that set, so two models never mix and a peer
can only ever add what the client asked for by digest. The longest unused directories go when the bound is passed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from model.assets import ASSET_NAMES  # whatever else a peer may list is not even asked for
from proto.messages import AssetRef
from swarm.clock import Clock, SystemClock
from swarm.errors import BadRequest, UsageError

MAX_SET_BYTES = 64 << 20
IN_USE_S = 3600.0  # what was used within that time is not evicted: another process may be reading it

log = logging.getLogger("shoal.assets")

Fetch = Callable[[AssetRef], Awaitable[bytes]]


class AssetStore:
    """A directory of such directories. One that cannot be written is replaced by a temporary one."""

    def __init__(self, directory: Path, max_bytes: int, clock: Clock | None = None):
        self._directory = directory
        self._clock = clock or SystemClock()
        self._max_bytes = max_bytes
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    async def collect(self, refs: Sequence[AssetRef], fetch: Fetch) -> Path:
        """The directory with the wanted ones of ``refs``; only what is missing or damaged is fetched.

        Raises BadRequest for a list or a file that is not what it claims, whatever ``fetch`` raises, and UsageError
        when the files can be written nowhere.
        """
        wanted = sorted((ref for ref in refs if ref.name in ASSET_NAMES), key=lambda ref: ref.name)
        total = sum(ref.size for ref in wanted)
        if total > MAX_SET_BYTES or len({ref.name for ref in wanted}) != len(wanted):
            raise BadRequest(
                f"assets of {total} bytes in {len(wanted)} files, expected one of each name and at most {MAX_SET_BYTES}"
            )
        name = hashlib.sha256("\n".join(f"{ref.name} {ref.sha256}" for ref in wanted).encode()).hexdigest()[:32]
        if self._temporary is None:
            try:
                return await self._fill(self._directory / name, wanted, fetch)
            except OSError as error:
                log.warning("the asset cache %s cannot be used, a temporary one serves: %s", self._directory, error)
        try:
            self._temporary = self._temporary or _temporary()
            return await self._fill(Path(self._temporary.name) / name, wanted, fetch)
        except OSError as error:
            raise UsageError(f"the model's tokenizer files ({total} bytes) can be written nowhere: {error}") from error

    async def _fill(self, directory: Path, wanted: Sequence[AssetRef], fetch: Fetch) -> Path:
        os.makedirs(directory, exist_ok=True)
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

    def _evict(self, keep: Path) -> None:
        """Directories come and go while this looks: other processes use the same cache."""
        total = _bytes(keep)
        for used_at, directory in sorted(_sets(keep.parent), reverse=True):
            if directory == keep:
                continue
            total += _bytes(directory)
            if total > self._max_bytes and self._clock.wall() - used_at > IN_USE_S:
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


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="shoal-assets-", ignore_cleanup_errors=True)


def _sets(cache: Path) -> list[tuple[float, Path]]:
    """When each directory was used last."""
    found: list[tuple[float, Path]] = []
    for directory in cache.iterdir():
        with contextlib.suppress(OSError):
            if directory.is_dir():
                found.append((directory.stat().st_mtime, directory))
    return found


def _bytes(directory: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for file in directory.iterdir():
            with contextlib.suppress(OSError):
                total += file.stat().st_size
    return total
