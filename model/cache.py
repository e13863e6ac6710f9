"""Quantised parts of a model on disk, so that a Peer starts by reading what it needs instead of rounding a checkpoint
again.

One safetensors file a Block and one an End, so that Spans that overlap share them. A file is named by what it holds:
the model's fingerprint, the identity of the files it was made from, the group size, the layout of the matrices, the
code that rounds and packs (its digest: a change of ``quantize`` is a change of the key) and the part.

The identity (``Source.identity``) is there because a fingerprint only samples: a checkpoint edited where no sample is
taken would be served the weights of the original. Content hashes are known of files on the Hub; local ones are told
apart by size, time of change and inode, since hashing 140 GB takes longer than quantising them. So two copies of one
model, or a new clone of it, have two caches: disk space and one more run of quantising against weights that are wrong.

A file carries a BLAKE3 hash of key, table and data, checked at every load (a start waits for it, and SHA-256 takes 2.5
times as long); a file that fails is reported and made again. Files are read into huge pages (``kernels.memory`` says
why), and mapped where the system has none, the file is small or little of it will be used. They are written aside,
synced and renamed, so two Peers may start at once and a crash leaves nothing but a temporary file, which a later start
removes.

A cache is a convenience: whatever is wrong with its directory is logged, and the Peer goes on without.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from blake3 import blake3

from kernels import Layout, panels
from kernels.memory import huge
from kernels.types import GROUP
from model import quantize
from model.safetensors_header import LENGTH_BYTES, build_header, header_length, parse_header
from model.source import map_file
from swarm.errors import CorruptCheckpoint

log = logging.getLogger(__name__)

FORMAT = 3
_AT_A_TIME = 64 << 20  # bytes a read
ABANDONED_S = 600.0  # a temporary file that nobody has written to for so long
SUPERSEDED_S = 7 * 86400.0  # what other code or another copy of the same model made, unused for so long
_NAMES = {torch.uint8: "U8", torch.int8: "I8", torch.float16: "F16", torch.float32: "F32"}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


class Cache:
    """The parts of one model. ``fingerprint`` is the model's, ``identity`` that of the bytes it is read from. ``load``
    may be called from several threads at once.
    """

    def __init__(self, directory: Path, fingerprint: str, identity: str, layout: Layout = "rows"):
        makers = [quantize.__file__, *([panels.__file__] if layout == "panels" else [])]
        maker = hashlib.sha256(b"".join(Path(file).read_bytes() for file in makers)).hexdigest()[:12]
        copy = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.fingerprint = fingerprint
        self.key = f"{fingerprint}-{copy}-c8-g{GROUP}-{layout}-v{FORMAT}-{maker}"
        self.directory = directory / self.key
        self._complained = False

    def path(self, part: str) -> Path:
        return self.directory / f"{part}.safetensors"

    def load(self, part: str, sparse: bool = False) -> dict[str, torch.Tensor] | None:
        """The part's tensors; None when it is not here or not whole. ``sparse``: few rows of them will ever be read, so
        once checked they stay on disk, mapped.
        """
        path = self.path(part)
        try:
            size = path.stat().st_size
            data = map_file(path, 0, size) if sparse else _contents(path, size)
            tensors = self._checked(part, path, size, data)
            if sparse and isinstance(data.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                data.obj.madvise(mmap.MADV_DONTNEED)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (CorruptCheckpoint, OSError, ValueError) as error:
            log.warning("cache file %s cannot be used (%s); making it again", path, error)
            return None
        with suppress(OSError):
            os.utime(self.directory)  # in use: not superseded
        return tensors

    def store(self, part: str, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Writes the part and says whether it is there; a failure is logged once and does no harm."""
        if self._complained:
            return False
        temporary = self.directory / f".{part}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            self._remove_superseded()
            self._write(temporary, part, tensors)
            temporary.replace(self.path(part))
            _sync_directory(self.directory)
            return True
        except OSError as error:
            self._complained = True
            log.warning("cannot write the cache %s (%s); going on without", self.directory, error.strerror or error)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            return False

    def _checked(self, part: str, path: Path, size: int, data: memoryview) -> dict[str, torch.Tensor]:
        length = header_length(bytes(data[:LENGTH_BYTES]), path.name, size)
        entries, metadata = parse_header(bytes(data[LENGTH_BYTES : LENGTH_BYTES + length]), path.name, size)
        tensors: dict[str, torch.Tensor] = {}
        for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
            if entry.dtype not in _DTYPES:
                raise CorruptCheckpoint(f"unexpected dtype {entry.dtype}")
            tensor = torch.frombuffer(data[entry.start : entry.end], dtype=_DTYPES[entry.dtype])
            tensors[name] = tensor.reshape(entry.shape)
        if metadata.get("blake3") != self._digest(part, tensors):
            raise CorruptCheckpoint("its bytes are not those that were written")
        return tensors

    def _write(self, path: Path, part: str, tensors: Mapping[str, torch.Tensor]) -> None:
        # Whole cache lines first, so that what follows them starts on one too.
        order = sorted(tensors, key=lambda name: (tensors[name].nbytes % 64 != 0, -tensors[name].itemsize, name))
        ordered = {name: tensors[name].contiguous() for name in order}
        table = {name: (_NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in ordered.items()}
        with path.open("xb") as file:
            file.write(build_header(table, {"blake3": self._digest(part, ordered)}))
            for tensor in ordered.values():
                file.write(_bytes_of(tensor))
            file.flush()
            os.fsync(file.fileno())

    def _digest(self, part: str, tensors: Mapping[str, torch.Tensor]) -> str:
        digest = blake3(f"{self.key} {part}".encode())
        for name, tensor in tensors.items():
            digest.update(f"\n{name} {_NAMES[tensor.dtype]} {list(tensor.shape)}\n".encode())
            digest.update(_bytes_of(tensor))
        return digest.hexdigest()

    def _remove_abandoned(self) -> None:
        for path in self.directory.glob(".*.tmp"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()

    def _remove_superseded(self) -> None:
        """The same model made by other code or from other files, which nobody has read or written for a week."""
        for path in self.directory.parent.glob(f"{self.fingerprint}-*"):
            with suppress(OSError):
                if path != self.directory and time.time() - path.stat().st_mtime > SUPERSEDED_S:
                    shutil.rmtree(path, ignore_errors=True)


def _contents(path: Path, size: int) -> memoryview:
    memory = huge(size)
    if memory is None:
        return map_file(path, 0, size)
    data = memory.numpy().data
    with path.open("rb", buffering=0) as file:
        done = 0
        while done < size:
            count = file.readinto(data[done : done + _AT_A_TIME])
            if not count:
                raise CorruptCheckpoint(f"it is truncated: expected {size} bytes, it has {done}")
            done += count
    return data


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _sync_directory(directory: Path) -> None:
    """Makes the rename last through a crash, where the file system knows how."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
