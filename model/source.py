"""Where a checkpoint's bytes come from: a directory, or the Hub, by name. Reads any rows of any tensor, and nothing
that was not asked for.

``open_source`` decides between the two and reads the table of tensors (the headers of all shards; small). What differs
is one method, ``Files.read``: a page-aligned private mapping here, an HTTP Range request in ``model.hub``.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from model.config import read_json
from model.safetensors_header import LENGTH_BYTES, TensorEntry, header_length, parse_header
from swarm.errors import CorruptCheckpoint, ModelNotFound, UnsupportedModel, UsageError

DEFAULT_MODEL = Path(__file__).resolve().parent / "sample"
DEFAULT_MODEL_NAME = "shoal-sample"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
MAX_FILES = 10_000

T = TypeVar("T")


class Files(Protocol):
    """The weight files of one checkpoint. ``parallel``: how many reads at once are worth while, and of how many bytes
    each; ``parallel_small``: how many where each is of a few KiB and takes as long as its answer is on the way.
    """

    parallel: int
    parallel_small: int
    piece_bytes: int

    def size(self, file: str) -> int:
        """Bytes in ``file``. Raises ModelNotFound without it."""
        ...

    def stamp(self, file: str) -> str:
        """What tells these bytes of ``file`` from others, as far as can be known without reading them."""
        ...

    def read(self, file: str, start: int, end: int) -> Any:
        """Exactly the bytes ``start`` up to ``end``, as a writable buffer that lives as long as it is referred to."""
        ...


class Source:
    """A checkpoint's tensors by name, whichever files hold them. Its methods may be called from several threads.

    ``name`` is what people call the model, ``directory`` holds its configuration and tokenizer files, ``bytes_read``
    counts what was asked of the weight files, headers included.
    """

    def __init__(self, name: str, directory: Path, files: Files, weight_map: dict[str, str] | None):
        """``weight_map`` (tensor → file) comes from the index of a sharded checkpoint; None: all is in one file."""
        self.name = name
        self.directory = directory
        self.files = files
        self.fingerprints: dict[str, str] = {}  # kept for ``model.fingerprint``
        self._bytes_read = 0
        self._lock = threading.Lock()
        names = [SINGLE] if weight_map is None else sorted(set(weight_map.values()))
        self._stamps = {file: files.stamp(file) for file in names}  # before anything is read
        self.tensors: dict[str, TensorEntry] = self._read_tables(weight_map)

    @property
    def bytes_read(self) -> int:
        return self._bytes_read

    @property
    def identity(self) -> str:
        """64 hex digits for the bytes of the weight files as they were when the Source was opened. Two copies of a
        checkpoint may have two.
        """
        return hashlib.sha256(repr(sorted(self._stamps.items())).encode()).hexdigest()

    def check_unchanged(self, names: Iterable[str]) -> None:
        """Raises CorruptCheckpoint when a file of one of these tensors is no longer what was opened."""
        for file in {self._entry(name).file for name in names}:
            if self.files.stamp(file) != self._stamps[file]:
                raise CorruptCheckpoint(f"{file} of {self.name} changed while it was being read; start again")

    def read(self, name: str, rows: slice | None = None, arrived: Callable[[int], None] | None = None) -> torch.Tensor:
        """The tensor ``name``, or only some of its rows, in its stored dtype (bf16, f16 or f32). ``arrived`` hears of
        bytes as they come.

        Raises CorruptCheckpoint when there is no such tensor or its file ends early, UnsupportedModel for other dtypes.
        """
        entry = self._entry(name)
        if entry.dtype not in DTYPES:
            raise UnsupportedModel(f"{entry.file}: tensor {name!r} is {entry.dtype}; supported: {', '.join(DTYPES)}")
        start, end, shape = entry.start, entry.end, entry.shape
        if rows is not None:
            first, last, step = rows.indices(shape[0])
            assert step == 1, "rows are a plain range"
            row_bytes = entry.nbytes // max(1, shape[0])
            start, end = entry.start + first * row_bytes, entry.start + max(first, last) * row_bytes
            shape = (max(0, last - first), *shape[1:])
        if start == end:
            return torch.empty(shape, dtype=DTYPES[entry.dtype])
        return torch.frombuffer(self._read_bytes(entry.file, start, end, arrived), dtype=DTYPES[entry.dtype]).reshape(
            shape
        )

    def samples(self, wanted: Sequence[tuple[str, slice]]) -> list[bytes]:
        """Some raw bytes of each tensor, in order, many at a time. What lies side by side in a file is one read."""
        places: list[tuple[str, int, int]] = []
        for name, part in wanted:
            entry = self._entry(name)
            first, last, _ = part.indices(entry.nbytes)
            places.append((entry.file, entry.start + first, entry.start + max(first, last)))
        runs: list[tuple[str, int, int]] = []
        for file, start, end in sorted(set(places)):
            if runs and runs[-1][0] == file and start <= runs[-1][2]:
                runs[-1] = (file, runs[-1][1], max(end, runs[-1][2]))
            else:
                runs.append((file, start, end))
        calls = [partial(self._read_bytes, *run) for run in runs]
        got = [bytes(data) for data in self.in_order(calls, self.files.parallel_small)]
        samples: list[bytes] = []
        for file, start, end in places:
            at = bisect_right(runs, (file, start + 1, 0)) - 1
            samples.append(got[at][start - runs[at][1] : end - runs[at][1]])
        return samples

    def in_order(self, calls: Iterable[Callable[[], T]], parallel: int | None = None) -> Iterator[T]:
        """The calls' results in order, with as many of them under way ahead as the files make worth while, or
        ``parallel``.
        """
        parallel = self.files.parallel if parallel is None else parallel
        if parallel <= 1:
            for call in calls:
                yield call()
            return
        pool = ThreadPoolExecutor(parallel, thread_name_prefix="shoal-source")
        try:
            ahead: deque[Future[T]] = deque()
            for call in calls:
                ahead.append(pool.submit(call))
                if len(ahead) >= parallel:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _entry(self, name: str) -> TensorEntry:
        if name not in self.tensors:
            raise CorruptCheckpoint(f"checkpoint {self.name} has no tensor {name!r}; its config.json calls for it")
        return self.tensors[name]

    def _read_bytes(self, file: str, start: int, end: int, arrived: Callable[[int], None] | None = None) -> Any:
        """A buffer of the bytes ``start`` up to ``end``, put together from pieces where the files prefer that."""
        with self._lock:
            self._bytes_read += end - start
        step = self.files.piece_bytes
        if end - start <= step:
            whole = self.files.read(file, start, end)
            if arrived is not None:
                arrived(end - start)
            return whole
        whole, done = bytearray(end - start), 0
        starts = range(start, end, step)
        for piece in self.in_order(partial(self.files.read, file, at, min(end, at + step)) for at in starts):
            whole[done : done + len(piece)] = piece
            done += len(piece)
            if arrived is not None:
                arrived(len(piece))
        return whole

    def _read_tables(self, weight_map: dict[str, str] | None) -> dict[str, TensorEntry]:
        calls = [partial(self._read_table, file) for file in self._stamps]
        tables = dict(zip(self._stamps, self.in_order(calls, self.files.parallel_small), strict=True))
        if weight_map is None:
            return tables[SINGLE]
        tensors: dict[str, TensorEntry] = {}
        for name, file in weight_map.items():
            if name not in tables[file]:
                raise CorruptCheckpoint(f"{INDEX} places tensor {name!r} in {file}, which does not have it")
            tensors[name] = tables[file][name]
        return tensors

    def _read_table(self, file: str) -> dict[str, TensorEntry]:
        size = self.files.size(file)
        first = bytes(self._read_bytes(file, 0, min(size, LENGTH_BYTES)))
        length = header_length(first, file, size)
        entries, _ = parse_header(bytes(self._read_bytes(file, LENGTH_BYTES, LENGTH_BYTES + length)), file, size)
        return entries


class LocalFiles:
    """Weight files in a directory, mapped piece by piece: a mapping ends with the tensor that was read from it."""

    parallel = parallel_small = 1
    piece_bytes = 1 << 62  # a mapping costs nothing until it is touched

    def __init__(self, directory: Path):
        self.directory = directory

    def size(self, file: str) -> int:
        try:
            return (self.directory / file).stat().st_size
        except OSError as error:
            raise ModelNotFound(
                f"cannot read {self.directory / file}: {error.strerror or error}; complete the checkpoint"
            ) from None

    def stamp(self, file: str) -> str:
        return stamp_of(self.directory / file)

    def read(self, file: str, start: int, end: int) -> memoryview:
        return map_file(self.directory / file, start, end)


def stamp_of(path: Path) -> str:
    """Size, time of the last change and inode: an edit changes the time, another file moved here has another inode.

    It goes unnoticed when somebody writes to the file in place and then sets its time back.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ModelNotFound(f"cannot read {path}: {error.strerror or error}; complete the checkpoint") from None
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def map_file(path: Path, start: int, end: int) -> memoryview:
    """Bytes of a file as private copy-on-write memory; nothing is read before it is touched, nothing is ever written
    back.
    """
    before = start % mmap.ALLOCATIONGRANULARITY
    if end <= start:
        return memoryview(bytearray())
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < end:  # touching pages past the end of a file kills the process
                raise CorruptCheckpoint(f"{path} is truncated: expected {end} bytes or more, it has {size}")
            mapped = mmap.mmap(file.fileno(), end - start + before, access=mmap.ACCESS_COPY, offset=start - before)
    except OSError as error:
        raise CorruptCheckpoint(f"cannot read {path}: {error.strerror or error}") from None
    return memoryview(mapped)[before:]


def open_source(model: str | Path, revision: str | None = None, cache_dir: str | Path | None = None) -> Source:
    """The checkpoint that a user calls ``model``: a directory if there is one of that name, otherwise a Hub id
    (``org/name``).

    ``revision`` is a branch, tag or commit of the Hub; ``org/name@revision`` says the same. ``cache_dir`` takes the
    small files of a Hub model. Raises UsageError, ModelNotFound, UnsupportedModel, CorruptCheckpoint, or ModelError
    when the Hub cannot be reached.
    """
    text = str(model)
    path = Path(text).expanduser()
    if text and path.exists():
        if revision is not None:
            raise UsageError(f"{text} is a local directory, which has no revision {revision!r}; leave --revision out")
        return _open_local(path)
    found = re.fullmatch(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?", text)
    if not found or text.endswith("/"):
        hint = "name a directory, or a Hub id such as org/name"
        raise ModelNotFound(f"there is no model {text!r}: no such directory, and not a Hub id; {hint}")
    if revision is not None and found[2] is not None and revision != found[2]:
        raise UsageError(f"{text} and --revision {revision} name two revisions; give one")
    from model.hub import open_hub

    return open_hub(found[1], revision or found[2], None if cache_dir is None else Path(cache_dir))


def weight_map_of(name: str, directory: Path, present: Callable[[str], bool]) -> dict[str, str] | None:
    """Which file holds which tensor of the checkpoint ``name``, or None when all are in one. ``present`` says whether
    it has a file.

    Raises ModelNotFound or UnsupportedModel when there are no safetensors at all.
    """
    if present(SINGLE):
        return None
    if not present(INDEX):
        if present("pytorch_model.bin") or present("pytorch_model.bin.index.json"):
            raise UnsupportedModel(f"{name} holds pickled weights (pytorch_model.bin); supported: safetensors")
        raise ModelNotFound(
            f"{name} has neither {SINGLE} nor {INDEX}; name a directory in Hugging Face layout, or a Hub id"
        )
    written = read_json(directory / INDEX).get("weight_map")
    if not isinstance(written, dict) or not written:
        raise CorruptCheckpoint(f"{directory / INDEX} has no weight_map")
    for name, file in written.items():
        if not isinstance(file, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", file):
            raise CorruptCheckpoint(
                f"{directory / INDEX} places tensor {name!r} in {file!r}, expected the plain name of a safetensors file"
            )
    if len(set(written.values())) > MAX_FILES:
        raise CorruptCheckpoint(
            f"{directory / INDEX} names {len(set(written.values()))} files, expected no more than {MAX_FILES}"
        )
    return written


def _open_local(directory: Path) -> Source:
    if not directory.is_dir():
        raise ModelNotFound(
            f"{directory} is not a directory; name the directory that holds config.json and the safetensors"
        )
    if not (directory / "config.json").is_file():
        raise ModelNotFound(f"{directory} has no config.json; name a directory in Hugging Face layout, or a Hub id")
    resolved = directory.resolve()
    name = DEFAULT_MODEL_NAME if resolved == DEFAULT_MODEL else resolved.name or "model"
    weight_map = weight_map_of(str(directory), directory, lambda file: (directory / file).is_file())
    return Source(name, directory, LocalFiles(directory), weight_map)
