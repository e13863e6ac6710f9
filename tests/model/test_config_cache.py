"""A configuration that was understood before: what is remembered, what is noticed, who reads it."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from model import config_cache
from model.config import ModelConfig, read_config
from model.config_cache import known_config, read_in_child
from swarm.errors import CorruptCheckpoint, ModelNotFound, UnsupportedModel
from tests.support.checkpoints import VARIANTS, make_variant

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reads in this process, which is faster, and lists whatever was read."""
    names: list[str] = []

    def here(directory: Path, name: str) -> ModelConfig:
        names.append(name)
        return read_config(directory, name)

    monkeypatch.setattr(config_cache, "read_in_child", here)
    return names


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A configuration with as many kinds of fields as there are."""
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    fields = {
        "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 512,
        "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1, "eos_token_id": [1, 2],
        "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6,
                            "original_max_position_embeddings": 128},
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(fields))
    return directory


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def notes(cache: Path) -> list[Path]:
    return sorted((cache / "configs").iterdir())


def test_a_second_start_reads_nothing_and_knows_the_same(checkpoint: Path, tmp_path: Path, read: list[str]):
    first = known_config(checkpoint, "m", tmp_path)
    second = known_config(checkpoint, "m", tmp_path)
    assert read == ["m"] and first == second == read_config(checkpoint, "m")
    assert hash(second) == hash(first) and first.windows != (None,) * 3 and first.rope.kind == "yarn"


def test_the_name_is_the_callers(checkpoint: Path, tmp_path: Path, read: list[str]):
    assert known_config(checkpoint, "one", tmp_path).name == "one"
    assert known_config(checkpoint, "other", tmp_path).name == "other"
    assert known_config(checkpoint, None, tmp_path).name == "checkpoint"
    assert len(read) == 1


def test_an_edit_of_either_file_is_noticed(checkpoint: Path, tmp_path: Path, read: list[str]):
    assert known_config(checkpoint, "m", tmp_path).eos_token_ids == (1, 2)
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert known_config(checkpoint, "m", tmp_path).eos_token_ids == (7,)
    edit(checkpoint / "config.json", vocab_size=99)
    assert known_config(checkpoint, "m", tmp_path).vocab_size == 99
    assert len(read) == 3 == len(notes(tmp_path))


def test_another_version_of_transformers_is_asked_again(
    checkpoint: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
):
    known_config(checkpoint, "m", tmp_path)
    monkeypatch.setattr(config_cache, "version", lambda package: "0.0")
    known_config(checkpoint, "m", tmp_path)
    assert len(read) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"hidden_size": 64', '"hidden_size": 63'),
        lambda text: text.replace('"windows"', '"panes"'),
    ],
)
def test_a_damaged_note_is_reported_and_replaced(
    checkpoint: Path, tmp_path: Path, read: list[str], caplog: pytest.LogCaptureFixture, damage
):
    expected = known_config(checkpoint, "m", tmp_path)
    (note,) = notes(tmp_path)
    whole = note.read_text()
    note.write_text(damage(whole))
    assert known_config(checkpoint, "m", tmp_path) == expected and "writing it anew" in caplog.text
    assert note.read_text() == whole and notes(tmp_path) == [note]


def test_without_a_directory_to_write_to_it_is_read_every_time(checkpoint: Path, tmp_path: Path, read: list[str]):
    (tmp_path / "file").touch()
    for cache in (None, None, tmp_path / "file", tmp_path / "file"):
        assert known_config(checkpoint, "m", cache).num_blocks == 3
    assert len(read) == 4


def test_what_cannot_be_read_is_refused_as_ever_and_not_remembered(checkpoint: Path, tmp_path: Path, read: list[str]):
    with pytest.raises(ModelNotFound, match=r"config\.json does not exist"):
        known_config(tmp_path / "nowhere", "m", tmp_path)
    edit(checkpoint / "config.json", hidden_act="gelu")
    for _ in range(2):
        with pytest.raises(UnsupportedModel, match="gelu"):
            known_config(checkpoint, "m", tmp_path)
    assert len(read) == 3


def test_the_child_gives_what_reading_gives_and_raises_what_it_raises(checkpoint: Path, tmp_path: Path):
    assert read_in_child(checkpoint, "m") == read_config(checkpoint, "m")
    edit(checkpoint / "config.json", num_hidden_layers=10**9)
    with pytest.raises(CorruptCheckpoint, match="num_hidden_layers is 1000000000"):
        read_in_child(checkpoint, "m")


def test_where_no_child_can_be_started_it_is_read_here(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert read_in_child(checkpoint, "m") == read_config(checkpoint, "m")
    assert "reading it here" in caplog.text


def test_without_torch_every_variant_is_understood_the_same(tmp_path: Path):
    directories = [make_variant(tmp_path / variant, variant) for variant in sorted(VARIANTS)]
    code = """
import pickle, sys
sys.modules["torch"] = None
from model.config import read_config
sys.stdout.buffer.write(pickle.dumps([read_config(directory) for directory in sys.argv[1:]]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, directories)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=100,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert pickle.loads(ran.stdout) == [read_config(directory) for directory in directories]


def test_a_serving_process_never_imports_transformers(checkpoint: Path, tmp_path: Path):
    code = """
import sys
from peer import loading
config = loading.known_config(*sys.argv[1:])
print(config.num_blocks, "transformers" in sys.modules, "torch" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), "m", str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert ran.stdout.split() == ["3", "False", "False"], ran.stderr
