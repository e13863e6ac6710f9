import hashlib

import pytest
from tokenizers import Tokenizer, models

from model.assets import ASSET_NAMES, MAX_ASSET_BYTES, Asset, check_tokenizer, read_assets
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


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff\xfe", b'{"model":\n{"type": "BPE", "vocab": {}, "merges": ["a b"]}}', b"version x"],
)
def test_a_tokenizer_that_does_not_parse_is_one_line(data):
    with pytest.raises(CorruptCheckpoint, match=r"the tokenizer\.json of org/name cannot be read: ") as caught:
        check_tokenizer([Asset("tokenizer.json", "", data)], "org/name")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_tokenizer_that_parses_is_taken_and_none_is_logged(caplog):
    data = Tokenizer(models.WordLevel({"a": 0}, "a")).to_str().encode()
    check_tokenizer([Asset("tokenizer.json", "", data)], "org/name")
    assert not caplog.text
    check_tokenizer([Asset("config.json", "", b"{}")], "org/name")
    assert "org/name has no tokenizer.json" in caplog.text
