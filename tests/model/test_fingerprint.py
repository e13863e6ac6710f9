import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.config import read_config
from model.fingerprint import fingerprint
from model.source import SINGLE, open_source
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
    assert source.bytes_read - headers < 13 * 4096 < 0.01 * (directory / SINGLE).stat().st_size
    before = source.bytes_read
    assert fingerprint(source, config) == found and source.bytes_read == before


def test_it_depends_on_the_model_and_not_on_files_or_names(llama, tmp_path):
    sharded = make_variant(tmp_path / "another name", "llama", max_shard_size="50KB")
    assert of(sharded) == of(llama)
    config = read_config(llama)
    renamed = replace(config, name="other", eos_token_ids=(1,))
    assert fingerprint(open_source(llama), renamed) == of(llama)


@pytest.mark.parametrize(
    "name",
    [
        "model.norm.weight",
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.2.mlp.down_proj.weight",
        "model.layers.3.self_attn.v_proj.weight",
    ],
)
def test_other_weights_have_another_fingerprint(llama, tmp_path, name):
    def change(tensors):
        tensors[name] = tensors[name] + 1e-3

    assert of(changed(llama, tmp_path, change)) != of(llama)


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
