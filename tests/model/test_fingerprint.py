import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.config import read_config
from model.fingerprint import fingerprint
from model.source import SINGLE, LocalFiles, Source, open_source
from swarm.errors import CorruptCheckpoint
from tests.support.checkpoints import make_variant


def of(directory: Path) -> str:
    return fingerprint(open_source(directory), read_config(directory))


def changed(directory: Path, to: Path, change) -> Path:
    for path in directory.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    tensors = load_file(to / SINGLE)
    change(tensors)
    save_file(tensors, to / SINGLE, {"format": "pt"})
    return to


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return make_variant(tmp_path_factory.mktemp("llama"), "llama")


def test_it_is_32_hex_digits_and_costs_a_few_small_reads(tmp_path):
    directory = make_variant(tmp_path, "llama", hidden_size=512, intermediate_size=1024, vocab_size=1000, head_dim=128)
    source, config = open_source(directory), read_config(directory)
    headers = source.bytes_read
    found = fingerprint(source, config)
    assert len(found) == 32 and int(found, 16) >= 0
    vectors = sum(entry.nbytes for entry in source.tensors.values() if len(entry.shape) == 1)
    assert source.bytes_read - headers == 4 * 7 * 1024 + 2 * 4096 + vectors
    before = source.bytes_read
    assert fingerprint(source, config) == found and source.bytes_read == before


class Slow(LocalFiles):
    """Files that are far away: a read is answered when 16 have been asked for, or nobody asks any more."""

    parallel_small = 16

    def __init__(self, directory: Path):
        super().__init__(directory)
        self.reads: list[tuple[int, int]] = []
        self.waiting = self.most = 0
        self.many = threading.Event()
        self.lock = threading.Lock()

    def read(self, file: str, start: int, end: int) -> memoryview:
        with self.lock:
            self.reads.append((start, end))
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            if self.most == self.parallel_small:
                self.many.set()
        if len(self.reads) > 2:  # not the header
            self.many.wait(5)
            self.many.set()  # one wait in vain is enough
        with self.lock:
            self.waiting -= 1
        return super().read(file, start, end)


@pytest.mark.parametrize(("variant", "reads_a_block"), [("llama", 4), ("qwen2", 5), ("qwen3", 4)])
def test_four_or_five_reads_a_block_many_at_once(tmp_path, variant, reads_a_block):
    """Of matrices large enough that what is sampled of one does not touch what is sampled of it at the other end."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
    directory = make_variant(tmp_path, variant, **sizes, head_dim=16)
    files = Slow(directory)
    source = Source("m", directory, files, None)
    assert len(files.reads) == 2
    assert fingerprint(source, read_config(directory)) == of(directory)
    assert len(files.reads) - 2 <= 4 * reads_a_block + 4
    assert files.most == 16


def test_it_depends_on_the_model_and_not_on_files_or_names(llama, tmp_path):
    sharded = make_variant(tmp_path / "another name", "llama", max_shard_size="50KB")
    assert of(sharded) == of(llama)
    config = read_config(llama)
    renamed = replace(config, name="other", eos_token_ids=(1,))
    assert fingerprint(open_source(llama), renamed) == of(llama)


@pytest.mark.parametrize("variant", ["llama", "llama-tied", "llama-biases", "qwen3"])
def test_any_tensor_that_is_zeroed_or_changed_gives_another_fingerprint(variant, tmp_path):
    """A matrix of one Block was once enough to edit a model unnoticed."""
    directory = make_variant(tmp_path / "m", variant)
    found = {of(directory)}
    original = load_file(directory / SINGLE)
    for name, tensor in original.items():
        for edited in (torch.zeros_like(tensor), tensor + 1e-3) if tensor.any() else (tensor + 1e-3,):
            save_file({**original, name: edited}, directory / SINGLE, {"format": "pt"})
            found.add(of(directory))
    changes = sum(2 if tensor.any() else 1 for tensor in original.values())
    assert len(found) == 1 + changes


def test_a_file_that_changes_meanwhile_gives_none(llama, tmp_path):
    directory = changed(llama, tmp_path, lambda tensors: None)
    source = open_source(directory)
    os.utime(directory / SINGLE, ns=(0, 1))
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors .*changed while it was being read"):
        fingerprint(source, read_config(directory))


def test_another_dtype_or_option_has_another_fingerprint(llama, tmp_path):
    half = make_variant(tmp_path / "half", "llama", dtype=torch.float16)
    yarn = make_variant(tmp_path / "yarn", "llama-yarn")
    assert len({of(llama), of(half), of(yarn)}) == 3
    fields = json.loads((yarn / "config.json").read_text())
    fields["rope_parameters"]["factor"] = 5.0
    before = of(yarn)
    (yarn / "config.json").write_text(json.dumps(fields))
    assert of(yarn) != before


def test_tensors_that_the_model_does_not_use_do_not_count(llama, tmp_path):
    def change(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    assert of(changed(llama, tmp_path, change)) == of(llama)


def test_an_incomplete_checkpoint_has_none_and_the_tensor_is_named(llama, tmp_path):
    def lose(tensors):
        del tensors["model.layers.1.mlp.up_proj.weight"]

    def bend(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 64)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(CorruptCheckpoint, match=r"model\.layers\.1\.mlp\.up_proj\.weight.*\[112, 64\]"):
        of(changed(llama, tmp_path / "a", lose))
    with pytest.raises(
        CorruptCheckpoint, match=r"up_proj\.weight' has shape \[3, 64\], config\.json calls for \[112, 64\]"
    ):
        of(changed(llama, tmp_path / "b", bend))
