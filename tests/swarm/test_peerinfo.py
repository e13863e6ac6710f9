from __future__ import annotations

import pytest

from swarm.errors import UsageError
from swarm.peerinfo import ModelRef
from tests.support.swarm import a_model, a_peer


@pytest.mark.parametrize("fingerprint", ["", "a" * 31, "a" * 33, "A" * 32, "g" * 32])
def test_a_fingerprint_is_32_hex_digits(fingerprint: str):
    with pytest.raises(UsageError, match="32 hex digits"):
        ModelRef("m", fingerprint, 24)


@pytest.mark.parametrize(("name", "num_blocks"), [("", 24), ("m" * 257, 24), ("m", 0), ("m", 4097)])
def test_a_model_has_a_name_and_a_sane_number_of_blocks(name: str, num_blocks: int):
    with pytest.raises(UsageError, match="out of range"):
        ModelRef(name, "a" * 32, num_blocks)


def test_a_span_past_the_last_block_is_refused():
    with pytest.raises(UsageError, match="0:24 does not fit a model of 20 blocks"):
        a_peer(model=a_model(20))


@pytest.mark.parametrize(
    "changes",
    [{"kv_tokens": -1}, {"kv_tokens_free": -1}, {"sessions": -1}, {"queue_tokens": -1}]
    + [{"block_s": v} for v in (-1.0, 3600.0, float("nan"), float("inf"))],
)
def test_impossible_figures_are_refused(changes: dict[str, float]):
    with pytest.raises(UsageError, match="impossible"):
        a_peer(**changes)
