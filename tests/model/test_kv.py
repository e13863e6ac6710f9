from __future__ import annotations

import pytest
import torch

from kernels.types import PAGE_SIZE
from model.config import read_config
from model.kv import KVCache
from swarm.profile import Profile
from swarm.span import Span
from tests.support import tiny

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def cache(profile: Profile = "c8", device: torch.device | None = None, seed: int = 1) -> KVCache:
    """Six Pages of Blocks 1 and 2, every number of them another."""
    kv = KVCache(read_config(tiny.directory()), Span(1, 3), 6, profile, device or torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    for block in kv.span:
        for part in (kv.k(block), kv.v(block)):
            part.copy_(torch.randn(part.shape, generator=generator))
    return kv


def page(kv: KVCache, number: int) -> list[torch.Tensor]:
    return [part[number].clone() for block in kv.span for part in (kv.k(block), kv.v(block))]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("profile", ["c8", "f32"])
def test_pages_that_are_read_can_be_written_elsewhere_and_touch_no_others(profile: Profile, device: torch.device):
    source, target = cache(profile, device), cache(profile, device, seed=2)
    before = [page(target, number) for number in range(6)]
    data = source.read_pages((4, 1))
    assert len(bytes(data)) == 2 * source.page_bytes
    target.write_pages((0, 5), bytes(data))
    assert same(page(target, 0), page(source, 4)) and same(page(target, 5), page(source, 1))
    for number in range(1, 5):
        assert same(page(target, number), before[number])


def test_what_was_read_stays_as_it_was(device: torch.device):
    kv = cache(device=device)
    data = kv.read_pages((2,))
    kept = bytes(data)
    kv.k(1)[2] = 0
    assert bytes(data) == kept


def test_a_page_is_copied_in_all_blocks(device: torch.device):
    kv = cache(device=device)
    before = [page(kv, number) for number in range(6)]
    kv.copy_page(3, 0)
    assert same(page(kv, 0), before[3])
    for number in range(1, 6):
        assert same(page(kv, number), before[number])


def test_data_of_another_size_is_not_written():
    kv = cache()
    with pytest.raises(AssertionError, match="bytes for 2 pages"):
        kv.write_pages((0, 1), bytes(kv.page_bytes))


def test_a_page_holds_the_keys_and_values_of_its_tokens_in_all_blocks():
    kv = cache()
    config = read_config(tiny.directory())
    assert kv.page_bytes == 2 * 2 * config.num_kv_heads * PAGE_SIZE * config.head_dim * 2
    assert kv.page_bytes * 6 == kv.nbytes
