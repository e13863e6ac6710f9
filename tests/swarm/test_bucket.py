from __future__ import annotations

import pytest

from swarm import bucket
from swarm.bucket import Buckets, TokenBucket


def test_a_burst_then_the_rate():
    tokens = TokenBucket(rate=2.0, burst=3, now=0.0)
    assert [tokens.take(0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert tokens.take(0.5) == 0 and tokens.take(0.5) == 0.5
    assert [tokens.take(100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_callers_have_buckets_of_their_own_and_few_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bucket, "MAX_CALLERS", 2)
    buckets = Buckets(rate=1.0, burst=1)
    assert (buckets.take("a", 0.0), buckets.take("b", 0.0), buckets.take("a", 0.0)) == (0, 0, 1.0)
    assert buckets.take("c", 0.0) == 0 and len(buckets) == 2
    assert buckets.take("a", 0.0) == 1.0, "the one not seen for longest is forgotten"
    assert buckets.take("b", 0.0) == 0
