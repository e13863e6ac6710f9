from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from peer.config import PeerConfig
from peer.loading import Abandoned, load, open_arithmetic, open_checkpoint, settle
from peer.runner import Runner
from swarm.errors import CorruptCheckpoint, ModelNotFound, UsageError
from swarm.span import Span
from tests.support import tiny
from tests.support.panel_kernels import fake_native


@contextmanager
def torch_threads() -> Iterator[None]:
    """Torch has as many afterwards as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_a_checkpoint_is_understood_before_any_block_is_loaded(tmp_path: Path):
    checkpoint = open_checkpoint(PeerConfig(model=str(tiny.directory()), cache=tmp_path))
    assert (checkpoint.ref, checkpoint.config.hidden_size) == (tiny.ref(), 64)
    assert {asset.name for asset in checkpoint.assets} == {"config.json", "generation_config.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["configs"]


def test_a_model_whose_tokenizer_cannot_be_read_is_refused_at_the_start(tmp_path: Path):
    directory = Path(shutil.copytree(tiny.directory(), tmp_path / "m"))
    (directory / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptCheckpoint, match=r"the tokenizer\.json of m cannot be read"):
        open_checkpoint(PeerConfig(model=str(directory), cache=tmp_path / "cache"))


def test_loading_reports_its_progress_and_ends_with_a_runner(tmp_path: Path):
    config = PeerConfig(model=str(tiny.directory()), cache=tmp_path)
    heard: list[tuple[int, int]] = []
    runner = load(
        open_checkpoint(config),
        Span(1, 3),
        config,
        open_arithmetic(config),
        4,
        lambda *done: heard.append(done),
        threading.Event(),
    )
    assert isinstance(runner, Runner)
    assert heard and heard[-1][0] == heard[-1][1]


def test_the_threads_that_were_asked_for_compute_and_the_log_says_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHOAL_ISA", raising=False)
    config = PeerConfig(model=str(tiny.directory()), cache=tmp_path, threads=3)
    with fake_native() as native, capture_logs() as said, torch_threads():
        settle(2)
        arithmetic = open_arithmetic(config)
        load(open_checkpoint(config), Span(1, 3), config, arithmetic, 4, lambda done, total: None, threading.Event())
        assert torch.get_num_threads() == 1, "the native kernels' threads are enough"
    assert native.opened == [("avx2", 3)]
    (line,) = [line for line in said if line["event"] == "arithmetic"]
    assert (line["profile"], line["isa"], line["threads"]) == ("c8", "panel-twin", 3)


def test_loading_can_be_abandoned(tmp_path: Path):
    config = PeerConfig(model=str(tiny.directory()), cache=tmp_path)
    abandon = threading.Event()
    abandon.set()
    with pytest.raises(Abandoned):
        load(open_checkpoint(config), Span(0, 4), config, open_arithmetic(config), 4, lambda done, total: None, abandon)


def test_a_model_that_is_not_there_is_not_found(tmp_path: Path):
    with pytest.raises(ModelNotFound):
        open_checkpoint(PeerConfig(model=str(tmp_path / "none"), cache=tmp_path))


def test_profile_f32_is_torchs_and_c8_the_hosts():
    assert open_arithmetic(PeerConfig(profile="f32")).kernels.name == "reference"
    here = open_arithmetic(PeerConfig())
    assert (here.profile, here.free_bytes, here.kernels.device.type) == ("c8", None, "cpu")


def test_a_gpu_that_is_not_there_is_a_mistake_of_usage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cuda"):
        open_arithmetic(PeerConfig(device="cuda"))
