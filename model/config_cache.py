"""``model.config.read_config`` for a process that lives long and starts often: transformers is never imported into it.

transformers reads configurations well and takes its time for it: two seconds and 100 MB, which stay. So it runs in a
child process, without torch, which is most of both; and what it understood is kept in the cache directory, under the
digest of all that the understanding depends on: the two files, the version of transformers, our own code. A start that
finds it there takes a millisecond.

A note that is damaged or of another shape is written anew; a cache that cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import secrets
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model import config as reader
from model.config import MAX_JSON_BYTES, ModelConfig, RopeConfig, read_config
from swarm.errors import ShoalError

FORMAT = 1
FILES = ("config.json", "generation_config.json")
FOLDER = "configs"
CHILD_S = 120.0  # a machine with a slow disk, which has never imported transformers

log = logging.getLogger(__name__)


def known_config(directory: str | Path, name: str | None = None, cache_dir: str | Path | None = None) -> ModelConfig:
    """What ``read_config(directory, name)`` gives or raises, remembered below ``cache_dir`` (None: nowhere)."""
    directory = Path(directory)
    name = name or directory.resolve().name or "model"
    key = None if cache_dir is None else _key(directory)
    if cache_dir is None or key is None:
        return read_in_child(directory, name)
    note = Path(cache_dir) / FOLDER / f"{key}.json"
    found = _recall(note, key)
    if found is None:
        found = read_in_child(directory, name)
        _keep(note, key, found)
    return replace(found, name=name)


def read_in_child(directory: Path, name: str) -> ModelConfig:
    """``read_config`` in a process of its own; in this one where that cannot be started."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "model.config_cache", str(directory), name],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHILD_S,
            check=True,
        )
        result = pickle.loads(ran.stdout)
    except (OSError, subprocess.SubprocessError, pickle.UnpicklingError, EOFError) as error:
        log.info("cannot read %s in a child process (%s); reading it here", directory, error)
        return read_config(directory, name)
    if isinstance(result, ShoalError):
        raise result
    return result


def _key(directory: Path) -> str | None:
    """64 hex digits for everything that decides what is understood; None where ``read_config`` is to complain."""
    digest = hashlib.sha256(f"{FORMAT} {version('transformers')}".encode())
    digest.update(hashlib.sha256(Path(reader.__file__).read_bytes()).digest())
    try:
        for path in (directory / file for file in FILES):
            there = path.exists()
            if there and path.stat().st_size > MAX_JSON_BYTES:
                return None
            digest.update(hashlib.sha256(path.read_bytes()).digest() if there else b"none")
    except OSError:
        return None
    return digest.hexdigest()


def _recall(note: Path, key: str) -> ModelConfig | None:
    try:
        written = json.loads(note.read_bytes())
        fields: dict[str, Any] = written["config"]
        if written["sha256"] != _digest(key, fields):
            raise ValueError("its text is not what was written")
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return ModelConfig(**{**fields, **lists, "rope": RopeConfig(**fields["rope"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ShoalError) as error:
        log.warning("the note %s cannot be used (%s); writing it anew", note, error)
        return None


def _keep(note: Path, key: str, config: ModelConfig) -> None:
    fields = json.loads(json.dumps(asdict(config)))
    temporary = note.with_name(f".{note.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"sha256": _digest(key, fields), "config": fields}))
        temporary.replace(note)
    except OSError as error:
        log.debug("cannot write the note %s: %s", note, error)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _digest(key: str, fields: dict[str, Any]) -> str:
    return hashlib.sha256(f"{key} {json.dumps(fields, sort_keys=True)}".encode()).hexdigest()


def _child(directory: str, name: str) -> None:
    """The child: one pickle on stdout, of the configuration or of the error that says what is wrong with it."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # to transformers it is not installed: four seconds less
    answer, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever else is said
    try:
        result: ModelConfig | ShoalError = read_config(directory, name)
    except ShoalError as error:
        result = error
    answer.write(pickle.dumps(result))
    answer.flush()


if __name__ == "__main__":
    _child(*sys.argv[1:])
