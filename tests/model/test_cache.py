import os
import resource
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from model.cache import ABANDONED_S, Cache, _contents
from swarm.errors import CorruptCheckpoint

FINGERPRINT = "00112233445566778899aabbccddeeff"


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "qkv.weight": torch.randint(-127, 128, (48, 128), generator=generator, dtype=torch.int8),
        "qkv.scale": torch.rand(48, 2, generator=generator).half(),
        "o.panels": torch.randint(0, 256, (1, 2, 4224), generator=generator, dtype=torch.uint8),
        "norm1": torch.randn(33, generator=generator),
    }


def same(one: dict[str, torch.Tensor] | None, other: dict[str, torch.Tensor]) -> bool:
    return one is not None and one.keys() == other.keys() and all(one[name].equal(other[name]) for name in other)


@contextmanager
def files_limited_to(size: int):
    """What a full disk does to a writer: the write that goes past ``size`` fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=["mapped", "read into huge pages"])
def cache(tmp_path, request, monkeypatch) -> Cache:
    """A file as small as these is mapped; what large ones go through is the same but for where they lie."""
    if request.param != "mapped":
        monkeypatch.setattr("kernels.memory.HUGE_PAGE_BYTES", 1)
    return Cache(tmp_path, FINGERPRINT, "bytes")


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("kernels.memory.HUGE_PAGE_BYTES", 1)
    cache = Cache(tmp_path, FINGERPRINT, "bytes")
    cache.store("head", tensors())
    size = cache.path("head").stat().st_size
    monkeypatch.setattr("model.cache._AT_A_TIME", 100)
    os.truncate(cache.path("head"), size // 2)
    with pytest.raises(CorruptCheckpoint, match=f"expected {size} bytes, it has {size // 2}"):
        _contents(cache.path("head"), size)
    assert cache.load("head") is None


def test_what_is_stored_is_loaded(cache):
    assert cache.load("block-0001") is None
    cache.store("block-0001", tensors())
    assert same(cache.load("block-0001"), tensors())
    assert cache.load("block-0002") is None


def test_the_file_is_plain_safetensors(cache):
    cache.store("head", tensors())
    with safe_open(cache.path("head"), framework="pt") as file:
        assert same({name: file.get_tensor(name) for name in file.keys()}, tensors())  # noqa: SIM118


def test_a_small_file_is_mapped_a_large_one_copied_and_tensors_are_aligned(cache, request):
    cache.store("head", tensors())
    loaded = cache.load("head")
    assert loaded is not None
    if Path("/proc/self/maps").exists():
        mapped = str(cache.path("head")) in Path("/proc/self/maps").read_text()
        assert mapped == (request.node.callspec.params["cache"] == "mapped")
    assert loaded["qkv.weight"].data_ptr() % 64 == 0 and loaded["o.panels"].data_ptr() % 64 == 0


def test_what_is_little_used_is_mapped_and_checked_all_the_same(cache):
    cache.store("embedding", tensors())
    assert same(cache.load("embedding", sparse=True), tensors())
    data = bytearray(cache.path("embedding").read_bytes())
    data[-1] ^= 1
    cache.path("embedding").write_bytes(data)
    assert cache.load("embedding", sparse=True) is None


def test_changing_a_loaded_tensor_leaves_the_file_alone(cache):
    cache.store("head", tensors())
    loaded = cache.load("head")
    assert loaded is not None
    loaded["norm1"].zero_()
    assert same(cache.load("head"), tensors())


def damage_nothing_but_one_byte_at(position: float):
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(position * (len(data) - 1))] ^= 1
        path.write_bytes(data)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *[damage_nothing_but_one_byte_at(position) for position in (0.0, 0.01, 0.05, 0.5, 0.9, 1.0)],
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    ],
)
def test_a_damaged_file_is_noticed_reported_and_replaced(cache, damage, caplog):
    cache.store("block-0001", tensors())
    damage(cache.path("block-0001"))
    assert cache.load("block-0001") is None
    assert "making it again" in caplog.text
    cache.store("block-0001", tensors())
    assert same(cache.load("block-0001"), tensors())


def test_a_file_of_another_part_or_model_is_not_taken(cache, tmp_path, caplog):
    cache.store("block-0001", tensors())
    cache.path("block-0001").rename(cache.path("block-0002"))
    assert cache.load("block-0002") is None and "making it again" in caplog.text
    assert Cache(tmp_path, "f" * 32, "bytes").load("block-0002") is None
    cache.store("block-0002", tensors())
    assert Cache(tmp_path, FINGERPRINT, "other bytes").load("block-0002") is None


def test_a_file_of_another_layout_is_not_taken(cache, tmp_path):
    cache.store("block-0001", tensors())
    panels = Cache(tmp_path, FINGERPRINT, "bytes", "panels")
    assert panels.load("block-0001") is None
    panels.store("block-0001", tensors(1))
    assert same(panels.load("block-0001"), tensors(1)) and same(cache.load("block-0001"), tensors())


def test_half_written_files_are_ignored_and_removed_when_abandoned(cache):
    cache.store("block-0001", tensors())
    old, new = cache.directory / ".block-0002.1-aa.tmp", cache.directory / ".block-0002.2-bb.tmp"
    for path in (old, new):
        path.write_bytes(cache.path("block-0001").read_bytes()[:100])
    os.utime(old, (old.stat().st_atime, old.stat().st_mtime - 2 * ABANDONED_S))
    assert cache.load("block-0002") is None
    cache.store("block-0003", tensors())
    assert not old.exists() and new.exists()


def test_a_full_disk_is_reported_once_and_leaves_nothing_behind(cache, caplog):
    cache.store("block-0001", tensors())
    with files_limited_to(1000):
        cache.store("block-0002", tensors())
        cache.store("block-0003", tensors())
    assert caplog.text.count("going on without") == 1
    assert [path.name for path in cache.directory.iterdir()] == ["block-0001.safetensors"]
    assert same(cache.load("block-0001"), tensors())


def test_what_earlier_code_made_of_the_same_model_goes_once_it_is_a_week_old(cache, tmp_path):
    old, young, other = (tmp_path / name for name in (f"{FINGERPRINT}-old", f"{FINGERPRINT}-young", "f" * 32 + "-old"))
    for path in (old, young, other):
        path.mkdir()
    for path in (old, other):
        os.utime(path, (0, 0))
    cache.store("block-0002", tensors())
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_what_is_in_use_is_not_superseded(cache, tmp_path):
    copy = Cache(tmp_path, FINGERPRINT, "another copy")
    copy.store("head", tensors())
    os.utime(copy.directory, (0, 0))
    assert copy.load("head") is not None
    cache.store("head", tensors())
    assert copy.load("head") is not None


def test_a_directory_that_cannot_be_made_is_no_obstacle(tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file", FINGERPRINT, "bytes")
    assert cache.load("head") is None
    cache.store("head", tensors())
    assert cache.load("head") is None
    assert caplog.text.count("going on without") == 1


def test_writers_and_readers_at_once_never_see_half_a_file(tmp_path, caplog):
    seen: list[bool] = []

    def write() -> None:
        mine = Cache(tmp_path, FINGERPRINT, "bytes")
        for _ in range(30):
            mine.store("head", tensors())

    def read() -> None:
        mine = Cache(tmp_path, FINGERPRINT, "bytes")
        for _ in range(60):
            loaded = mine.load("head")
            seen.append(loaded is None or same(loaded, tensors()))

    threads = [threading.Thread(target=target) for target in (write, write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(seen) and not caplog.text
    assert [path.name for path in Cache(tmp_path, FINGERPRINT, "bytes").directory.iterdir()] == ["head.safetensors"]
