import hashlib

import pytest

from model.assets import ASSET_NAMES, MAX_ASSET_BYTES, read_assets
from swarm.errors import CorruptCheckpoint


def test_assets_are_the_known_files_with_their_digests(tmp_path):
    for name in ("tokenizer.json", "config.json", "model.safetensors", "README.md", "chat_template.jinja"):
        (tmp_path / name).write_bytes(name.encode())
    assets = read_assets(tmp_path)
    assert [asset.name for asset in assets] == ["config.json", "tokenizer.json", "chat_template.jinja"]
    for asset in assets:
        assert asset.data == asset.name.encode()
        assert asset.sha256 == hashlib.sha256(asset.data).hexdigest()


def test_a_directory_without_any_has_none(tmp_path):
    (tmp_path / "tokenizer.json").mkdir()
    assert read_assets(tmp_path) == ()


def test_an_asset_too_large_for_the_wire_is_refused(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(MAX_ASSET_BYTES + 1)
    with pytest.raises(CorruptCheckpoint, match="expected no more than"):
        read_assets(tmp_path)


def test_asset_names_are_plain_file_names():
    assert all("/" not in name and not name.startswith(".") for name in ASSET_NAMES)
