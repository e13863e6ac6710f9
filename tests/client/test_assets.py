"""Assets on disk: fetched once, checked always, bounded, and never where a peer would like them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path

import pytest

from client.assets import IN_USE_S, MAX_SET_BYTES, AssetStore
from proto.messages import AssetRef
from swarm.clock import VirtualClock
from swarm.errors import BadRequest, DeadLink, UsageError


def ref(name: str, data: bytes) -> AssetRef:
    return AssetRef(name, hashlib.sha256(data).hexdigest(), len(data))


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


class Shelf:
    """What a peer hands out; counts."""

    def __init__(self, **files: bytes):
        self.files = {name.replace("_json", ".json"): data for name, data in files.items()}
        self.refs = [ref(name, data) for name, data in self.files.items()]
        self.fetched: list[str] = []

    async def fetch(self, wanted: AssetRef) -> bytes:
        self.fetched.append(wanted.name)
        return self.files[wanted.name]


async def test_files_come_once_and_then_from_disk(tmp_path: Path):
    shelf = Shelf(tokenizer_json=b"{}", config_json=b"[]")
    store = AssetStore(tmp_path / "deep" / "cache", 1 << 20)
    first = await store.collect(shelf.refs, shelf.fetch)
    second = await AssetStore(tmp_path / "deep" / "cache", 1 << 20).collect(shelf.refs, shelf.fetch)
    assert first == second and sorted(shelf.fetched) == ["config.json", "tokenizer.json"]
    assert (first / "tokenizer.json").read_bytes() == b"{}"
    assert sorted(os.listdir(first)) == ["config.json", "tokenizer.json"], "no temporary file stays"


async def test_a_damaged_file_is_fetched_again(tmp_path: Path):
    shelf = Shelf(tokenizer_json=b"right")
    directory = await AssetStore(tmp_path, 1 << 20).collect(shelf.refs, shelf.fetch)
    (directory / "tokenizer.json").write_bytes(b"wrong")
    await AssetStore(tmp_path, 1 << 20).collect(shelf.refs, shelf.fetch)
    assert (directory / "tokenizer.json").read_bytes() == b"right" and len(shelf.fetched) == 2


async def test_other_bytes_than_promised_are_not_kept(tmp_path: Path):
    shelf = Shelf(tokenizer_json=b"right")
    shelf.files["tokenizer.json"] = b"wrong"
    with pytest.raises(BadRequest, match="digest"):
        await AssetStore(tmp_path, 1 << 20).collect(shelf.refs, shelf.fetch)
    assert not files_in(tmp_path)


async def test_only_what_clients_have_a_use_for_is_asked_for(tmp_path: Path):
    shelf = Shelf(tokenizer_json=b"{}", evil_json=b"x")
    directory = await AssetStore(tmp_path, 1 << 20).collect(
        [*shelf.refs, AssetRef(".bashrc", "0" * 64, 5)], shelf.fetch
    )
    assert os.listdir(directory) == ["tokenizer.json"]


async def test_absurd_lists_are_refused_before_anything_is_fetched(tmp_path: Path):
    shelf = Shelf(tokenizer_json=b"{}")
    store = AssetStore(tmp_path, 1 << 20)
    for refs in ([*shelf.refs, *shelf.refs], [AssetRef("tokenizer.json", "0" * 64, MAX_SET_BYTES + 1)]):
        with pytest.raises(BadRequest):
            await store.collect(refs, shelf.fetch)
    assert shelf.fetched == []


async def test_a_failing_peer_leaves_no_half_written_file(tmp_path: Path):
    async def gone(_: AssetRef) -> bytes:
        raise DeadLink("gone")

    with pytest.raises(DeadLink):
        await AssetStore(tmp_path, 1 << 20).collect(Shelf(tokenizer_json=b"{}").refs, gone)
    assert not files_in(tmp_path)


async def test_the_longest_unused_sets_go_when_the_bound_is_passed(tmp_path: Path):
    store = AssetStore(tmp_path, 250)
    shelves = [Shelf(tokenizer_json=bytes([n]) * 100) for n in range(4)]
    directories: list[Path] = []
    for age, shelf in enumerate(shelves):
        directories.append(await store.collect(shelf.refs, shelf.fetch))
        os.utime(directories[-1], (1000 + age, 1000 + age))
    assert [d.exists() for d in directories] == [False, False, True, True]
    big = Shelf(tokenizer_json=b"x" * 300)
    assert (await store.collect(big.refs, big.fetch)).exists(), "what was just asked for stays, however large"


async def test_what_was_used_within_the_hour_stays_for_another_process_may_be_reading_it(tmp_path: Path):
    clock = VirtualClock(wall=time.time())
    store = AssetStore(tmp_path, 50, clock)
    old, new = Shelf(tokenizer_json=b"o" * 100), Shelf(tokenizer_json=b"n" * 100)
    first = await store.collect(old.refs, old.fetch)
    clock.advance(IN_USE_S - 60)
    await store.collect(new.refs, new.fetch)
    assert first.exists()
    clock.advance(120)
    await store.collect(new.refs, new.fetch)
    assert not first.exists()


async def test_entries_that_vanish_while_it_looks_are_skipped(tmp_path: Path):
    store = AssetStore(tmp_path, 50, VirtualClock(wall=time.time() + 2 * IN_USE_S))
    (tmp_path / "vanished").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "gone").symlink_to(tmp_path / "nowhere")
    shelf = Shelf(tokenizer_json=b"{}")
    assert (await store.collect(shelf.refs, shelf.fetch)).exists()


async def test_a_cache_that_fails_under_way_is_left_for_a_temporary_one_and_two_that_fail_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shelf = Shelf(config_json=b"[]", tokenizer_json=b"{}")
    broken = await AssetStore(tmp_path, 1 << 20).collect(shelf.refs, shelf.fetch)
    (broken / "tokenizer.json").unlink()
    (broken / "tokenizer.json").mkdir()  # nothing can be written over it, as on a full disk
    store = AssetStore(tmp_path, 1 << 20)
    directory = await store.collect(shelf.refs, shelf.fetch)
    assert tmp_path not in directory.parents and (directory / "tokenizer.json").read_bytes() == b"{}"
    assert await store.collect(shelf.refs, shelf.fetch) == directory
    store.close()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="can be written nowhere"):
        await AssetStore(tmp_path, 1 << 20).collect(shelf.refs, shelf.fetch)


async def test_where_the_cache_cannot_be_written_a_temporary_one_serves(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    shelf = Shelf(tokenizer_json=b"{}")
    store = AssetStore(tmp_path / "file" / "cache", 1 << 20)
    directory = await store.collect(shelf.refs, shelf.fetch)
    assert (directory / "tokenizer.json").exists()
    store.close()
    assert not directory.exists()
