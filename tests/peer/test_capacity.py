from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.config import ModelConfig, RopeConfig
from peer.capacity import ASSUMED_FREE_BYTES, block_bytes, blocks_that_fit, free_bytes, kv_tokens_that_fit, span_bytes
from peer.config import DEFAULT_KV_TOKENS
from swarm.errors import UsageError
from swarm.span import Span

TINYLLAMA = ModelConfig(
    family="llama", name="tiny", hidden_size=2048, intermediate_size=5632, num_blocks=22, num_heads=32, num_kv_heads=4,
    head_dim=64, vocab_size=32000, max_positions=2048, rms_eps=1e-5, rope=RopeConfig(), tied=False, qkv_bias=False,
    o_bias=False, mlp_bias=False, qk_norm=False, windows=(None,) * 22,
)  # fmt: skip
ALL = Span(0, 22)
TOKEN = 2 * 4 * 64 * 2 * 22  # bytes of keys and values in c8
PARAMETERS = 2048 * (2048 + 256 + 256) + 2048 * 2048 + 3 * 2048 * 5632


def test_a_block_of_c8_takes_a_byte_a_parameter_and_one_of_f32_four():
    assert PARAMETERS < block_bytes(TINYLLAMA, "c8") < 1.1 * PARAMETERS
    assert block_bytes(TINYLLAMA, "f32") == 4 * PARAMETERS


def test_the_ends_that_touch_the_span_count_once_where_they_are_tied():
    block, end = block_bytes(TINYLLAMA, "f32"), 4 * 32000 * 2048
    assert span_bytes(TINYLLAMA, "f32", Span(1, 21)) == 20 * block
    assert span_bytes(TINYLLAMA, "f32", Span(0, 2)) == span_bytes(TINYLLAMA, "f32", Span(20, 22)) == 2 * block + end
    assert span_bytes(TINYLLAMA, "f32", ALL) == 22 * block + 2 * end
    assert span_bytes(replace(TINYLLAMA, tied=True), "f32", ALL) == 22 * block + end


def test_blocks_and_ends_take_half_of_the_free_memory_and_at_least_one_block_is_tried():
    block = block_bytes(TINYLLAMA, "c8")
    ends = span_bytes(TINYLLAMA, "c8", ALL) - 22 * block
    assert blocks_that_fit(TINYLLAMA, "c8", 2 * (5 * block + ends)) == 5
    assert blocks_that_fit(TINYLLAMA, "c8", 2 * (5 * block + ends) - 2) == 4
    assert blocks_that_fit(TINYLLAMA, "c8", 1000 * block) == 22
    assert blocks_that_fit(TINYLLAMA, "c8", 0) == 1


def test_the_kv_cache_takes_no_more_than_a_quarter_unless_more_is_asked_for():
    weights = span_bytes(TINYLLAMA, "c8", ALL)
    quarter = weights // TOKEN  # where the weights take three quarters
    assert kv_tokens_that_fit(TINYLLAMA, "c8", ALL, None, 4 * 30000 * TOKEN) == 30000
    assert kv_tokens_that_fit(TINYLLAMA, "c8", ALL, None, weights + 500 * TOKEN) == 500
    assert kv_tokens_that_fit(TINYLLAMA, "c8", ALL, None, 4 * 10**6 * TOKEN) == DEFAULT_KV_TOKENS
    assert kv_tokens_that_fit(TINYLLAMA, "c8", ALL, None, 0) == 1
    assert kv_tokens_that_fit(TINYLLAMA, "c8", ALL, 2 * quarter, 4 * quarter * TOKEN) == 2 * quarter


def test_a_kv_cache_that_cannot_be_had_beside_the_weights_is_refused_with_what_can():
    free = 2000 * TOKEN + span_bytes(TINYLLAMA, "c8", ALL)
    assert kv_tokens_that_fit(TINYLLAMA, "c8", ALL, 2000, free) == 2000
    with pytest.raises(UsageError, match=r"--kv-tokens 2001 takes .* the weights take .*; up to 2000 fit"):
        kv_tokens_that_fit(TINYLLAMA, "c8", ALL, 2001, free)
    with pytest.raises(UsageError, match="up to 0 fit"):
        kv_tokens_that_fit(TINYLLAMA, "c8", ALL, 1, 1)


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
