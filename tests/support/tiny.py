"""One tiny random checkpoint for all tests that need a real model of four Blocks, and parts of it in memory."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from model.config import read_config
from model.fingerprint import fingerprint
from model.source import open_source
from model.span_model import SpanModel
from swarm.peerinfo import ModelRef
from swarm.profile import Profile
from swarm.span import Span
from tests.support.checkpoints import make_checkpoint

ALL = Span(0, 4)

_HOME = tempfile.TemporaryDirectory(prefix="shoal-tiny-")


@functools.cache
def directory() -> Path:
    """Where the checkpoint is; removed when the tests end."""
    return make_checkpoint(Path(_HOME.name) / "tiny")


@functools.cache
def ref() -> ModelRef:
    source = open_source(str(directory()))
    return ModelRef(source.name, fingerprint(source, read_config(directory())), 4)


def span_model(span: Span = ALL, profile: Profile = "c8", num_pages: int = 16) -> SpanModel:
    """A fresh model of ``span`` with empty KV."""
    return SpanModel.load(open_source(str(directory())), read_config(directory()), span, profile, num_pages)
