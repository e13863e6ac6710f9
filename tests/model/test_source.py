import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.config import read_config
from model.source import DEFAULT_MODEL, INDEX, SINGLE, Source, open_source
from swarm.errors import CorruptCheckpoint, ModelNotFound, UnsupportedModel, UsageError
from tests.support.checkpoints import make_variant


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    return make_variant(tmp_path_factory.mktemp("single"), "llama", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    return make_variant(tmp_path_factory.mktemp("sharded"), "llama", dtype=torch.bfloat16, max_shard_size="30KB")


def copy(directory: Path, to: Path) -> Path:
    for path in directory.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_every_tensor_of_a_single_file_is_read(single):
    source = open_source(single)
    expected = load_file(single / SINGLE)
    assert source.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert source.read(name).equal(tensor)


def test_a_sharded_checkpoint_holds_the_same_tensors(single, sharded):
    assert len(list(sharded.glob("*.safetensors"))) > 5
    one, many = open_source(single), open_source(sharded)
    assert one.tensors.keys() == many.tensors.keys()
    for name in one.tensors:
        assert one.read(name).equal(many.read(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes_are_kept(tmp_path, single, dtype):
    copy(single, tmp_path)
    tensor = torch.randn(5, 3).to(dtype)
    save_file({"w": tensor, "odd": torch.ones(3, dtype=torch.int8)}, tmp_path / SINGLE)
    read = open_source(tmp_path).read("w")
    assert read.dtype == dtype and read.equal(tensor)


def test_rows_are_read_alone_and_counted(single):
    source = open_source(single)
    whole = source.read("lm_head.weight")
    before = source.bytes_read
    assert source.read("lm_head.weight", slice(10, 13)).equal(whole[10:13])
    assert source.bytes_read - before == 3 * 64 * 2
    assert source.read("lm_head.weight", slice(120, 500)).equal(whole[120:])
    assert source.read("lm_head.weight", slice(5, 5)).shape == (0, 64)


def test_samples_come_in_order_and_neighbours_are_read_together(single, sharded):
    for directory in (single, sharded):
        source = open_source(directory)
        names = sorted(source.tensors, reverse=True)
        wanted = [(name, part) for name in names for part in (slice(0, 6), slice(-10, None), slice(0, None))]
        before = source.bytes_read
        expected = [source.read(name).view(torch.uint8).reshape(-1).numpy().tobytes() for name in names]
        whole = source.bytes_read - before
        assert source.samples(wanted) == [part for data in expected for part in (data[:6], data[-10:], data)]
        assert source.bytes_read - before == 2 * whole


def test_an_edit_or_another_copy_has_another_identity(single, tmp_path):
    directory = copy(single, tmp_path)
    first = open_source(directory).identity
    assert first == open_source(directory).identity != open_source(single).identity
    os.utime(directory / SINGLE, ns=(0, (directory / SINGLE).stat().st_mtime_ns + 1))
    second = open_source(directory).identity
    times = (directory / SINGLE).stat()
    (directory / "new").write_bytes((directory / SINGLE).read_bytes())
    os.utime(directory / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    (directory / "new").replace(directory / SINGLE)
    assert len({first, second, open_source(directory).identity}) == 3


def test_opening_reads_headers_only(sharded):
    source = open_source(sharded)
    headers = 0
    for path in sharded.glob("*.safetensors"):
        with path.open("rb") as file:
            headers += 8 + struct.unpack("<Q", file.read(8))[0]
    assert source.bytes_read == headers


def test_a_tensor_read_is_ours_to_change_and_the_file_is_not(single):
    source = open_source(single)
    source.read("model.norm.weight").zero_()
    assert not source.read("model.norm.weight").eq(0).any()


def test_the_shipped_model_has_a_name_of_its_own_and_others_their_directory(single):
    assert open_source(single).name == single.name
    assert open_source(str(single) + "/").name == single.name
    if (DEFAULT_MODEL / "config.json").exists():
        assert open_source(DEFAULT_MODEL).name == "shoal-sample"


@pytest.mark.parametrize(
    "model", ["", "gpt2", "./nowhere", "/nowhere/at/all", "a/b/c", "org/", "/", "org/name@", "../x", "org\\name"]
)
def test_what_is_neither_a_directory_nor_a_hub_id_is_not_found(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound) as caught:
        open_source(model)
    assert "\n" not in str(caught.value)


def test_a_directory_goes_before_a_hub_id_of_the_same_name(single, tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "name").symlink_to(single)
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_source("org/name"), Source)


def test_a_revision_of_a_directory_is_a_usage_error(single):
    with pytest.raises(UsageError, match="revision"):
        open_source(single, "main")
    with pytest.raises(UsageError, match="two revisions"):
        open_source("org/name@v1", "v2")


def test_a_directory_must_hold_config_and_safetensors(tmp_path, single):
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        open_source(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="neither"):
        open_source(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(UnsupportedModel, match="supported: safetensors"):
        open_source(tmp_path)
    with pytest.raises(ModelNotFound, match="not a directory"):
        open_source(single / SINGLE)


@pytest.mark.parametrize("bytes_left", [0, 5, 100, -1])
def test_a_truncated_file_is_corrupt(tmp_path, single, bytes_left):
    copy(single, tmp_path)
    data = (tmp_path / SINGLE).read_bytes()
    (tmp_path / SINGLE).write_bytes(data[:bytes_left])
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors"):
        open_source(tmp_path)


def test_a_file_that_shrinks_later_is_corrupt_and_kills_nobody(tmp_path, single):
    source = open_source(copy(single, tmp_path))
    with (tmp_path / SINGLE).open("r+b") as file:
        file.truncate(20_000)
    cut = max(source.tensors, key=lambda name: source.tensors[name].end)
    with pytest.raises(CorruptCheckpoint, match="truncated"):
        source.read(cut)


def test_a_missing_shard_is_named(tmp_path, sharded):
    copy(sharded, tmp_path)
    lost = sorted(tmp_path.glob("*.safetensors"))[2]
    lost.unlink()
    with pytest.raises(ModelNotFound, match=lost.name):
        open_source(tmp_path)


def test_an_index_that_contradicts_its_files_is_corrupt(tmp_path, sharded):
    copy(sharded, tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    index["weight_map"]["model.norm.weight"] = next(
        file for file in files if file != index["weight_map"]["model.norm.weight"]
    )
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(CorruptCheckpoint, match=r"model\.norm\.weight"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "file", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", 7, "model.bin", ".safetensors", "..safetensors"]
)
def test_an_index_cannot_point_outside_its_directory(tmp_path, sharded, file):
    copy(sharded, tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": file}}))
    with pytest.raises(CorruptCheckpoint, match="plain name"):
        open_source(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": [1]}'])
def test_an_index_without_a_map_is_corrupt(tmp_path, sharded, text):
    copy(sharded, tmp_path)
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(CorruptCheckpoint):
        open_source(tmp_path)


def test_a_tensor_of_another_dtype_is_refused_when_it_is_read(tmp_path, single):
    copy(single, tmp_path)
    save_file({"w": torch.ones(3, 3, dtype=torch.int8)}, tmp_path / SINGLE)
    source = open_source(tmp_path)
    with pytest.raises(UnsupportedModel, match="supported: BF16, F16, F32"):
        source.read("w")
    with pytest.raises(CorruptCheckpoint, match="no tensor 'v'"):
        source.read("v")


def test_results_come_in_order_whatever_the_number_of_readers(single):
    source = open_source(single)
    source.files.parallel = 3  # type: ignore[misc]
    assert list(source.in_order((lambda n=n: n) for n in range(50))) == list(range(50))


def test_config_and_source_agree_on_the_sample_of_transformers(single):
    config = read_config(single)
    assert open_source(single).tensors["lm_head.weight"].shape == (config.vocab_size, config.hidden_size)
