from __future__ import annotations

from pathlib import Path

import pytest

from model.config import ModelConfig, RopeConfig
from peer.capacity import ASSUMED_FREE_BYTES, block_bytes, blocks_that_fit, free_bytes, kv_bytes, kv_tokens_that_fit
from peer.config import DEFAULT_KV_TOKENS
from swarm.errors import UsageError

TINYLLAMA = ModelConfig(
    family="llama", name="tiny", hidden_size=2048, intermediate_size=5632, num_blocks=22, num_heads=32, num_kv_heads=4,
    head_dim=64, vocab_size=32000, max_positions=2048, rms_eps=1e-5, rope=RopeConfig(), tied=False, qkv_bias=False,
    o_bias=False, mlp_bias=False, qk_norm=False, windows=(None,) * 22,
)  # fmt: skip
PARAMETERS = 2048 * (2048 + 256 + 256) + 2048 * 2048 + 3 * 2048 * 5632


def test_a_block_of_c8_takes_a_byte_a_parameter_and_one_of_f32_four():
    assert PARAMETERS < block_bytes(TINYLLAMA, "c8") < 1.1 * PARAMETERS
    assert block_bytes(TINYLLAMA, "f32") == 4 * PARAMETERS


def test_keys_and_values_of_a_token():
    assert kv_bytes(TINYLLAMA, "c8", 22) == 2 * 4 * 64 * 2 * 22


def test_blocks_take_half_of_the_free_memory_and_at_least_one_is_tried():
    block = block_bytes(TINYLLAMA, "c8")
    assert blocks_that_fit(TINYLLAMA, "c8", 2 * 5 * block) == 5
    assert blocks_that_fit(TINYLLAMA, "c8", 1000 * block) == 22
    assert blocks_that_fit(TINYLLAMA, "c8", 0) == 1


def test_the_kv_cache_takes_no_more_than_a_quarter_unless_more_is_asked_for():
    token = kv_bytes(TINYLLAMA, "c8", 22)
    assert kv_tokens_that_fit(TINYLLAMA, "c8", 22, None, 4 * 500 * token) == 500
    assert kv_tokens_that_fit(TINYLLAMA, "c8", 22, None, 4 * 10**6 * token) == DEFAULT_KV_TOKENS
    assert kv_tokens_that_fit(TINYLLAMA, "c8", 22, None, 0) == 1
    assert kv_tokens_that_fit(TINYLLAMA, "c8", 22, 1500, 4 * 500 * token) == 1500


def test_a_kv_cache_that_cannot_be_had_is_refused_with_what_can():
    token = kv_bytes(TINYLLAMA, "c8", 22)
    with pytest.raises(UsageError, match=r"--kv-tokens 2001 takes .* GiB are free; up to 2000 fit"):
        kv_tokens_that_fit(TINYLLAMA, "c8", 22, 2001, 2000 * token)


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 8192 << 10), ("1000000", 400_000), ("1000000000000", 8192 << 10), ("100", 0)]
)
def test_free_memory_is_the_machines_or_less_in_a_container(tmp_path: Path, limit: str, expected: int):
    (tmp_path / "meminfo").write_text("MemTotal: 9999 kB\nMemAvailable:    8192 kB\n")
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text("600000\n")
    assert free_bytes(tmp_path / "meminfo", tmp_path) == expected


def test_a_system_that_says_nothing_is_assumed_to_have_some(tmp_path: Path):
    assert free_bytes(tmp_path / "none", tmp_path) == ASSUMED_FREE_BYTES
