"""The real huggingface_hub client against a Hub on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.config import read_config
from model.fingerprint import fingerprint
from model.hub import open_hub
from model.source import open_source
from swarm.errors import CorruptCheckpoint, ModelError, ModelNotFound, UnsupportedModel
from tests.support.checkpoints import make_variant
from tests.support.hub import COMMIT, Hub, Trouble

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory = make_variant(
        tmp_path_factory.mktemp("model"), "llama-tied", dtype=torch.bfloat16, max_shard_size="40KB"
    )
    (directory / "tokenizer.json").write_text("{}")
    (directory / "README.md").write_text("not needed")
    (directory / "pytorch_model.bin").write_bytes(bytes(1000))
    return directory


@pytest.fixture
def hub(checkpoint, monkeypatch):
    with Hub() as hub:
        hub.add("org/name", checkpoint)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


class Naps(list):
    """Sleeps that take no time."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def open_name(tmp_path, naps=None, repo="org/name", revision=None):
    return open_hub(repo, revision, tmp_path, Naps() if naps is None else naps)


def test_a_hub_model_reads_like_a_directory(hub, checkpoint, tmp_path):
    remote, local = open_source("org/name", None, tmp_path), open_source(checkpoint)
    assert remote.name == "org/name"
    assert remote.tensors == local.tensors
    for name in local.tensors:
        assert remote.read(name).equal(local.read(name))
    config = read_config(remote.directory, remote.name)
    assert config == read_config(checkpoint, "org/name")
    assert fingerprint(remote, config) == fingerprint(local, config)


def test_only_the_bytes_asked_for_are_served(hub, checkpoint, tmp_path):
    source = open_name(tmp_path)
    headers = open_source(checkpoint).bytes_read
    assert hub.weight_bytes == source.bytes_read == headers
    hub.served.clear()
    source.read("model.layers.2.mlp.up_proj.weight", slice(3, 10))
    assert hub.weight_bytes == source.bytes_read - headers == 7 * 64 * 2


def test_the_identity_of_a_hub_model_is_its_content(hub, checkpoint, tmp_path):
    first = open_name(tmp_path).identity
    assert first == open_name(tmp_path / "elsewhere").identity == open_name(tmp_path, revision="v1").identity
    edited = tmp_path / "edited"
    edited.mkdir()
    for path in checkpoint.iterdir():
        (edited / path.name).write_bytes(path.read_bytes())
    file = max(edited.glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    hub.add("org/name", edited)
    assert open_name(tmp_path).identity != first


def test_the_way_to_storage_is_asked_for_once_a_file(hub, checkpoint, tmp_path):
    source = open_name(tmp_path)
    fingerprint(source, read_config(source.directory))
    asked = [request for request in hub.requests if "/resolve/" in request and request.endswith(".safetensors")]
    files = {entry.file for entry in source.tensors.values()}
    assert len(asked) == len(files) < sum("/storage/" in request for request in hub.requests)
    assert set(hub.storage_tokens) == {None}


@pytest.mark.parametrize("status", [403, 404, 503])
def test_storage_that_no_longer_knows_us_is_found_again_through_the_hub(hub, checkpoint, tmp_path, status):
    source = open_name(tmp_path)
    hub.requests.clear()
    hub.trouble = Trouble(statuses=[status])
    assert source.read("model.norm.weight").equal(open_source(checkpoint).read("model.norm.weight"))
    assert [request.split("/")[1] for request in hub.requests] == ["storage", "org", "storage"]
    hub.trouble = Trouble(statuses=[status] * 100)
    with pytest.raises(ModelError):
        source.read("model.norm.weight")


def test_only_small_files_that_matter_are_downloaded(hub, tmp_path):
    source = open_name(tmp_path)
    assert {path.name for path in source.directory.iterdir()} == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
    }
    assert source.directory.is_relative_to(tmp_path / "hub")
    assert not hub.served["README.md"] and not hub.served["pytorch_model.bin"]


def test_everything_is_read_from_one_commit(hub, tmp_path):
    open_name(tmp_path, revision="v1").read("model.norm.weight")
    assert hub.requests[0].endswith("/revision/v1")
    assert all(f"/resolve/{COMMIT}/" in request for request in hub.requests if "/resolve/" in request)


def test_the_token_stays_with_the_hub(hub, tmp_path):
    open_name(tmp_path).read("model.norm.weight")
    assert hub.storage_tokens and set(hub.storage_tokens) == {None}


def test_a_revision_is_part_of_the_name(hub, tmp_path):
    assert open_source("org/name", "v1", tmp_path).name == "org/name@v1"
    assert open_source("org/name@v1", None, tmp_path).name == "org/name@v1"


def test_a_broken_transfer_goes_on_where_it_stopped(hub, checkpoint, tmp_path):
    naps = Naps()
    source = open_name(tmp_path, naps)
    hub.served.clear()
    hub.trouble = Trouble(break_after=1000, breaks=3)
    assert source.read("model.embed_tokens.weight").equal(open_source(checkpoint).read("model.embed_tokens.weight"))
    assert hub.weight_bytes == 128 * 64 * 2
    assert len(naps) == 3


def test_passing_trouble_is_waited_out_and_lasting_trouble_told(hub, checkpoint, tmp_path):
    naps = Naps()
    source = open_name(tmp_path, naps)
    hub.trouble = Trouble(statuses=[503, 429, 500])
    assert source.read("model.norm.weight").equal(open_source(checkpoint).read("model.norm.weight"))
    assert len(naps) == 3
    hub.trouble = Trouble(statuses=[503] * 100)
    with pytest.raises(ModelError, match="status 503"):
        source.read("model.norm.weight")
    assert len(naps) < 20 and sum(naps) < 60


def test_a_server_that_ignores_range_does_not_make_us_download_all(hub, tmp_path):
    source = open_name(tmp_path)
    hub.trouble = Trouble(ignore_range=True)
    with pytest.raises(ModelError, match="ignores Range"):
        source.read("model.norm.weight")


def test_other_bytes_than_asked_for_are_refused(hub, tmp_path):
    source = open_name(tmp_path)
    hub.trouble = Trouble(shift_range=2)
    with pytest.raises(ModelError, match="answered range"):
        source.read("model.layers.0.mlp.up_proj.weight")


def test_a_file_shorter_than_the_hub_said_is_corrupt(hub, tmp_path):
    source = open_name(tmp_path)
    hub.trouble = Trouble(statuses=[416])
    with pytest.raises(CorruptCheckpoint, match="ends before"):
        source.read("model.norm.weight")


def test_missing_private_and_gated_models_are_told_apart(hub, tmp_path):
    hub.refused["org/gated"] = (403, "GatedRepo")
    with pytest.raises(ModelNotFound, match="no model org/none"):
        open_name(tmp_path, repo="org/none")
    with pytest.raises(ModelNotFound, match="no such revision"):
        open_name(tmp_path, revision="v9")
    with pytest.raises(ModelNotFound, match="gated: accept its terms"):
        open_name(tmp_path, repo="org/gated")
    hub.refused["org/closed"] = (401, "")
    with pytest.raises(ModelError, match="HF_TOKEN"):
        open_name(tmp_path, repo="org/closed")
    hub.refused["org/down"] = (500, "")
    naps = Naps()
    with pytest.raises(ModelError, match="status 500") as caught:
        open_name(tmp_path, naps, repo="org/down")
    assert len(naps) == 3 and "\n" not in str(caught.value)


def test_a_hub_model_without_safetensors_says_so(hub, tmp_path):
    (tmp_path / "m").mkdir()
    hub.add("org/old", tmp_path / "m")
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        open_name(tmp_path, repo="org/old")
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "m" / "pytorch_model.bin").touch()
    with pytest.raises(UnsupportedModel, match=r"org/old holds pickled weights"):
        open_name(tmp_path, repo="org/old")


def test_nobody_at_the_address_is_one_line_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ModelError, match=r"cannot reach the Hub at http://127\.0\.0\.1:9 .*check the network"
    ) as caught:
        open_source("org/name", None, tmp_path)
    assert "\n" not in str(caught.value)


def test_something_else_at_the_address_is_told(hub, monkeypatch, tmp_path):
    (tmp_path / "x").mkdir()
    hub.garbage = b"<html>"
    with pytest.raises(ModelError, match="check HF_ENDPOINT"):
        open_name(tmp_path)


def test_a_cache_directory_that_cannot_be_written_does_not_stop_us(hub, tmp_path, caplog):
    (tmp_path / "file").touch()
    source = open_name(tmp_path / "file")
    assert read_config(source.directory).family == "llama"
    assert "temporary directory" in caplog.text


def test_from_a_fresh_process_by_environment_alone(hub, tmp_path):
    """Also what huggingface_hub does with HF_ENDPOINT when it is imported; and a download of other tools is used before
    the network.
    """
    code = (
        "import sys\n"
        "from huggingface_hub import snapshot_download\n"
        "from model.source import open_source\n"
        "source = open_source('org/name', None, sys.argv[1])\n"
        "print(source.read('model.norm.weight').float().sum().item())\n"
        "snapshot_download('org/name', tqdm_class=None)\n"
        "print(open_source('org/name', None, sys.argv[1]).read('model.norm.weight').float().sum().item())\n"
    )
    env = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }

    def run(env):
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "cache")], env=env, capture_output=True, text=True, timeout=120
        )

    first = run(env)
    assert first.returncode == 0, first.stderr
    one, two = first.stdout.split()
    assert one == two
    served = hub.weight_bytes
    offline = run({**env, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 0, offline.stderr
    assert offline.stdout.split() == [one, one] and hub.weight_bytes == served
