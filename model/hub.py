"""A checkpoint on the Hugging Face Hub: small files through ``huggingface_hub``, tensors by HTTP Range requests.

A Peer for four Blocks of a large model reads only their bytes. Everything is pinned to one commit, so that a push to
the Hub in between cannot mix two versions. Weight files that the user has already downloaded with Hugging Face tools
are read from there. What goes wrong at the Hub becomes one of our errors here, in ``_ours``.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from model.assets import ASSET_NAMES, MAX_ASSET_BYTES
from model.config import one_line
from model.ranges import READ_TIMEOUT_S, RETRIED_STATUS, RangeRequest, httpx_of_hub, retry_after_s
from model.source import INDEX, LocalFiles, Source, map_file, stamp_of, weight_map_of
from swarm.errors import CorruptCheckpoint, ModelError, ModelNotFound, ShoalError

log = logging.getLogger(__name__)

SMALL_FILES = (*ASSET_NAMES, INDEX)
PATIENCE_S = 180.0  # a read's deadline: this, and its bytes at the slowest rate
SLOWEST_BYTES_PER_S = 16 << 10
MAX_FAILURES = 8  # in a row, without a new byte in between


def open_hub(
    repo: str, revision: str | None, cache_dir: Path | None, sleep: Callable[[float], None] = time.sleep
) -> Source:
    """The checkpoint ``repo`` (``org/name``) at ``revision`` (default: the Hub's main branch).

    Small files go to ``cache_dir``/hub (default: where Hugging Face tools keep them). Raises ModelNotFound,
    UnsupportedModel, CorruptCheckpoint, or ModelError when the Hub cannot be reached and there is no complete download
    either.
    """
    from huggingface_hub import HfApi

    name = repo if revision is None else f"{repo}@{revision}"
    hub = HfApi(endpoint=endpoint(), library_name="shoal")
    try:
        info = _describe(hub, repo, revision, name, sleep)
    except ModelNotFound:
        raise
    except ModelError as error:
        return _open_downloaded(repo, revision, name, error)
    commit = info.sha
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
    if commit is None or "config.json" not in sizes:
        raise ModelNotFound(f"{name} on the Hub has no config.json; name a model in Hugging Face layout")
    directory, temporary = _small_files(hub, repo, commit, name, sizes, cache_dir, sleep)
    weight_map = weight_map_of(name, directory, lambda file: file in sizes)
    weights = [sibling for sibling in info.siblings or () if sibling.rfilename.endswith(".safetensors")]
    files = HubFiles(hub, repo, commit, name, weights, sleep)
    source = Source(name, directory, files, weight_map)
    if temporary:
        weakref.finalize(source, shutil.rmtree, temporary, ignore_errors=True)
    return source


def _describe(hub: Any, repo: str, revision: str | None, name: str, sleep: Callable[[float], None]) -> Any:
    """huggingface_hub's ModelInfo: the commit and its files with their sizes."""
    with _ours(name):
        try:
            return _patiently(
                lambda: hub.model_info(repo, revision=revision, files_metadata=True, timeout=READ_TIMEOUT_S), sleep
            )
        except (KeyError, TypeError, ValueError) as error:
            if type(error).__name__ == "HFValidationError":
                raise
            raise ModelError(
                f"{endpoint()} does not answer like the Hub ({one_line(error)}); check HF_ENDPOINT"
            ) from None


def endpoint() -> str:
    """The Hub's address; ``HF_ENDPOINT`` names another."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


class HubFiles:
    """Weight files of one commit on the Hub. ``listed`` are huggingface_hub's RepoSiblings; ``sleep`` is how it waits
    between attempts.
    """

    parallel = 4
    parallel_small = 16  # the session keeps 20 connections
    piece_bytes = 16 << 20

    def __init__(
        self,
        hub: Any,
        repo: str,
        commit: str,
        name: str,
        listed: Sequence[Any],
        sleep: Callable[[float], None],
    ):
        from huggingface_hub import hf_hub_url, try_to_load_from_cache
        from huggingface_hub.utils import build_hf_headers

        self.name = name
        self.sleep = sleep
        self._sizes: dict[str, int | None] = {sibling.rfilename: sibling.size for sibling in listed}
        self._stamps = {
            sibling.rfilename: (sibling.lfs and sibling.lfs.sha256) or sibling.blob_id or f"{commit} {sibling.size}"
            for sibling in listed
        }
        sizes = self._sizes
        self._urls = {file: hf_hub_url(repo, file, revision=commit, endpoint=hub.endpoint) for file in sizes}
        self._headers = {**build_hf_headers(library_name="shoal"), "Accept-Encoding": "identity"}
        self._storage: dict[str, tuple[str, dict[str, str]]] = {}  # file → address and headers behind the redirect
        here = {file: try_to_load_from_cache(repo, file, revision=commit) for file in sizes}
        self._here = {
            file: Path(path) for file, path in here.items() if isinstance(path, str) and _size_of(path) == sizes[file]
        }

    def size(self, file: str) -> int:
        if file not in self._sizes:
            raise ModelNotFound(f"{self.name} on the Hub has no file {file}, which its index names")
        size = self._sizes[file]
        if size is None:
            raise ModelError(f"{endpoint()} does not say how large {file} of {self.name} is; check HF_ENDPOINT")
        return size

    def stamp(self, file: str) -> str:
        """The hash of its content; the commit where a mirror does not tell it. A download may have been edited: that
        goes by its own stamp.
        """
        if file in self._here:
            return stamp_of(self._here[file])
        return self._stamps.get(file, "")

    def read(self, file: str, start: int, end: int) -> Any:
        """The bytes, by as many requests as it takes: a broken transfer goes on where it stopped.

        The Hub redirects to its storage; where to is remembered, which halves the time that small reads take. Such an
        address is good for a while only, so what goes wrong there goes by the Hub again.

        Raises ModelError when it gives up.
        """
        if file in self._here:
            return map_file(self._here[file], start, end)
        data = bytearray(end - start)
        done, failures, direct = 0, 0, True
        deadline = time.monotonic() + PATIENCE_S + len(data) / SLOWEST_BYTES_PER_S
        while done < len(data):
            known = self._storage.get(file) if direct else None
            request = RangeRequest(*known or (self._urls[file], self._headers), start + done, end)
            before = done
            try:
                with _ours(self.name):
                    for piece in request:
                        data[done : done + len(piece)] = piece
                        done += len(piece)
                        if time.monotonic() > deadline:
                            break
            except ModelError as error:
                if known is None or isinstance(error, CorruptCheckpoint):
                    raise
                direct = False
                self._storage.pop(file, None)
                continue
            if done == len(data) and request.storage is not None:
                self._storage[file] = request.storage
            if done < len(data):
                self._storage.pop(file, None)
                failures = failures + 1 if done == before else 0
                if failures > MAX_FAILURES or time.monotonic() > deadline:
                    said = request.problem
                    raise ModelError(f"{self.name}: {endpoint()} gives no more of {file} ({said}); try again later")
                log.warning("reading %s of %s again from byte %d: %s", file, self.name, start + done, request.problem)
                self.sleep(request.pause_s or min(10.0, 0.25 * 2**failures) * random.uniform(0.5, 1.0))
        return data


def _small_files(
    hub: Any,
    repo: str,
    commit: str,
    name: str,
    sizes: dict[str, int | None],
    cache_dir: Path | None,
    sleep: Callable[[float], None],
) -> tuple[Path, str | None]:
    """The directory that configuration, tokenizer and index were put in; and above it, where that is to go with the
    Source, what to remove.
    """
    wanted = [file for file in SMALL_FILES if file in sizes]
    for file in wanted:
        if (sizes[file] or 0) > MAX_ASSET_BYTES:
            raise CorruptCheckpoint(f"{name}: {file} has {sizes[file]} bytes, expected no more than {MAX_ASSET_BYTES}")

    def fetch(into: str | None) -> Path:
        with _ours(name), _no_progress_bars():
            got = [
                _patiently(partial(hub.hf_hub_download, repo, file, revision=commit, cache_dir=into), sleep)
                for file in wanted
            ]
        return Path(got[0]).parent

    try:
        return fetch(None if cache_dir is None else str(cache_dir / "hub")), None
    except OSError as error:
        log.warning("cannot keep the small files of %s: %s; using a temporary directory", name, one_line(error))
    temporary = tempfile.mkdtemp(prefix="shoal-hub-")
    return fetch(temporary), temporary


def _open_downloaded(repo: str, revision: str | None, name: str, why: ModelError) -> Source:
    """A complete download that Hugging Face tools have left on this machine; ``why`` is raised where there is none."""
    from huggingface_hub import snapshot_download

    try:
        directory = Path(snapshot_download(repo, revision=revision, local_files_only=True))
        weight_map = weight_map_of(name, directory, lambda file: (directory / file).is_file())
        source = Source(name, directory, LocalFiles(directory), weight_map)
    except (OSError, ShoalError, ValueError):
        raise why from None
    log.warning("%s; using the download of %s in %s", why, name, directory)
    return source


def _patiently(call: Callable[[], Any], sleep: Callable[[float], None], attempts: int = 4) -> Any:
    """``call`` again after trouble that may pass, a few times."""
    from huggingface_hub.errors import HfHubHTTPError

    httpx = httpx_of_hub()
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response.status_code not in RETRIED_STATUS or attempt == attempts:
                raise
            pause_s = retry_after_s(error.response.headers.get("Retry-After", ""))
        except httpx.ConnectError:
            raise  # nobody there: the user wants to know now
        except httpx.TransportError:
            if attempt == attempts:
                raise
            pause_s = 0.0
        sleep(pause_s or 0.25 * 2**attempt)
    raise AssertionError("unreachable")


@contextmanager
def _ours(name: str) -> Iterator[None]:
    """The table of the Hub's errors and ours. Plain OSErrors (disk full, no permission) pass."""
    from huggingface_hub import errors

    httpx = httpx_of_hub()
    try:
        yield
    except errors.GatedRepoError:
        page = f"{endpoint()}/{name.partition('@')[0]}"
        raise ModelNotFound(
            f"{name} is gated: accept its terms at {page}, then `hf auth login` or set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelNotFound(
            f"{name}: the Hub has the model but no such revision; give a branch, tag or commit"
        ) from None
    except errors.RepositoryNotFoundError:
        hint = "check the name, or `hf auth login`; no local directory has that name either"
        raise ModelNotFound(f"the Hub has no model {name}, or it is private: {hint}") from None
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(f"cannot reach the Hub at {endpoint()} for {name}: {one_line(error)}") from None
    except errors.EntryNotFoundError as error:
        raise ModelNotFound(f"{name}: {one_line(error)}") from None
    except errors.HFValidationError as error:
        raise ModelNotFound(f"{name!r} is not a Hub id: {one_line(error)}") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = "check HF_TOKEN" if status in (401, 403) else "try again later, or name a local directory"
        raise ModelError(f"the Hub at {endpoint()} answered {name} with status {status}; {hint}") from None
    except (httpx.HTTPError, httpx.InvalidURL, errors.OfflineModeIsEnabled, errors.FileMetadataError) as error:
        detail = one_line(error) or type(error).__name__
        raise ModelError(
            f"cannot reach the Hub at {endpoint()} for {name}: {detail}; check the network, or name a local directory"
        ) from None


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Our standard error carries structured logs: no bars of others between them."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _size_of(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
