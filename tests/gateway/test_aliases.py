"""Weights are kept, ids are faithful, and what cannot be meant is said."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway.aliases import Alias, read_aliases
from swarm.errors import UsageError


def test_an_id_always_gets_the_same_model():
    alias = Alias.parse("chat=a:90,b:10")
    assert len({alias.choose("request-7") for _ in range(10)}) == 1


def test_the_weights_are_kept():
    alias = Alias.parse("chat=a:90,b:10,c:0")
    found = Counter(alias.choose(f"id {n}") for n in range(10_000))
    assert set(found) == {"a", "b"}
    assert 900 < found["b"] < 1100


def test_raising_a_weight_moves_nobody_back():
    few, many = Alias.parse("chat=a:90,b:10"), Alias.parse("chat=a:50,b:50")
    ids = [f"id {n}" for n in range(2000)]
    assert all(many.choose(each) == "b" for each in ids if few.choose(each) == "b")


def test_models_may_have_colons_revisions_and_slashes():
    assert Alias.parse("chat=org/model:7b@ab12:3").targets == (("org/model:7b@ab12", 3),)
    assert Alias.parse("chat=org/model").targets == (("org/model", 1),)


@pytest.mark.parametrize(
    "text", ["chat", "chat=", "=a:1", "chat=a:1,b", "chat=a:-1", "chat=a:x", "chat=a:0", "chat=:1"]
)
def test_what_is_no_alias_is_refused(text: str):
    with pytest.raises(UsageError, match="alias"):
        Alias.parse(text)


def test_an_alias_given_twice_or_leading_to_an_alias_is_refused():
    with pytest.raises(UsageError, match="twice"):
        read_aliases(["chat=a", "chat=b"])
    with pytest.raises(UsageError, match="alias itself"):
        read_aliases(["chat=a", "best=chat"])
