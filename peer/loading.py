"""From what the user named to a Runner, on the compute thread. Imports torch only when called."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from model.assets import TOKENIZER, Asset, check_tokenizer, read_assets
from model.config import ModelConfig
from model.config_cache import known_config
from peer.config import PeerConfig
from swarm.errors import ShoalError
from swarm.peerinfo import ModelRef
from swarm.span import Span

if TYPE_CHECKING:
    from kernels import Kernels
    from model.source import Source
    from peer.grammars import Readers
    from peer.runner import Runner

Progress = Callable[[int, int], None]  # done, total

log = structlog.get_logger("peer.loading")


class Abandoned(ShoalError):
    """The process was told to leave while it was loading."""


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found and understood, none of its Blocks loaded."""

    source: Source
    config: ModelConfig
    ref: ModelRef
    assets: Sequence[Asset]


def settle(threads: int) -> None:
    """Give torch this many threads. On the compute thread, before it computes anything."""
    import torch

    torch.set_num_threads(threads)
    with suppress(RuntimeError):  # once a process, and only before any work was done in parallel
        torch.set_num_interop_threads(1)


@dataclass(frozen=True)
class Arithmetic:
    """What computes, and the profile that this Peer may claim for it."""

    kernels: Kernels
    profile: str
    free_bytes: int | None  # of the device's own memory; None: it computes in the host's


def open_arithmetic(config: PeerConfig) -> Arithmetic:
    """Raises UsageError where ``config.device`` cannot be had."""
    from kernels import REFERENCE, select

    if config.profile != "c8":
        return Arithmetic(select(REFERENCE), config.profile, None)
    if config.device == "cpu":
        return Arithmetic(select(threads=config.threads), config.profile, None)
    from kernels.cuda import open_device

    kernels = open_device(config.device)
    return Arithmetic(kernels, kernels.profile(), kernels.free_bytes)


def open_checkpoint(config: PeerConfig) -> Checkpoint:
    """Read what is small of the model. Raises ModelError and UsageError."""
    from model.fingerprint import fingerprint
    from model.source import DEFAULT_MODEL, open_source

    source = open_source(config.model or DEFAULT_MODEL, config.revision, config.cache)
    model_config = known_config(source.directory, source.name, config.cache)
    ref = ModelRef(model_config.name, fingerprint(source, model_config), model_config.num_blocks)
    assets = read_assets(source.directory)
    check_tokenizer(assets, source.name)
    return Checkpoint(source, model_config, ref, assets)


def open_readers(checkpoint: Checkpoint, span: Span, max_sessions: int) -> Readers | None:
    """What understands grammars, where the Span ends with the Head and the model has a tokenizer. Its reading begins
    now, on a thread of its own: a large one takes a second.
    """
    from model.constraint import Constraints
    from model.examiner import Examiner
    from model.grammar import apart, read_tokenizer
    from peer.grammars import Readers

    data = next((asset.data for asset in checkpoint.assets if asset.name == TOKENIZER), None)
    if data is None or span.end < checkpoint.ref.num_blocks:
        return None
    vocab_size, ends = checkpoint.config.vocab_size, checkpoint.config.eos_token_ids
    reading = apart(read_tokenizer, data.decode(), vocab_size, ends)
    examiner = Examiner(checkpoint.source.directory / TOKENIZER, vocab_size, ends)
    return Readers(examiner, Constraints(reading.result, vocab_size, max_sessions))


def load(
    checkpoint: Checkpoint, span: Span, config: PeerConfig, arithmetic: Arithmetic, num_pages: int,
    progress: Progress, abandon: threading.Event, readers: Readers | None = None,
) -> Runner:  # fmt: skip
    """Read, quantise and keep the Span. ``abandon`` set ends it at the next tensor with Abandoned."""
    from model.span_model import SpanModel
    from peer.runner import Runner

    def advanced(done: int, total: int) -> None:
        if abandon.is_set():
            raise Abandoned("told to leave while loading")
        progress(done, total)

    model = SpanModel.load(
        checkpoint.source,
        checkpoint.config,
        span,
        config.profile,
        num_pages,
        config.cache,
        advanced,
        config.threads,
        arithmetic.kernels,
    )
    _return_memory()
    if model.arithmetic not in ("reference", "torch"):
        settle(1)  # torch only quantised; from here on it moves rows about, and its idle threads would spin
    log.info(
        "arithmetic", profile=arithmetic.profile, device=config.device, isa=model.arithmetic, threads=config.threads
    )
    return Runner(model, None if readers is None else readers.constraints)


def _return_memory() -> None:
    """What quantising took and freed goes back to the system, where the C library keeps it otherwise (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
