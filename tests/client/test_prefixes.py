from __future__ import annotations

from dataclasses import replace

import pytest

from client.prefixes import Chain, Naming, Prefixes, place_of
from proto.messages import WireDType
from swarm.route import Hop
from swarm.span import Span
from tests.support.hash_engine import hash_peer

NAMES = [bytes([n]) * 16 for n in range(8)]


def hop(number: int, start: int, end: int, instance: int = 1) -> Hop:
    return Hop(replace(hash_peer(number, start, end), instance=instance), Span(start, end))


def test_a_chain_stands_for_all_tokens_so_far_and_grows_with_them():
    tokens = list(range(20))
    chain = Chain(4)
    first = list(chain.upto(tokens[:9], 9))
    assert len(first) == 2, "only full Pages"
    assert list(chain.upto(tokens, 5)) == list(Chain(4).upto(tokens, 5))
    assert list(chain.upto(tokens, 2)) == first
    changed = Chain(4).upto([9, *tokens[1:]], 5)
    assert not set(changed) & set(chain.upto(tokens, 5)), "one other token at the beginning changes all that follow"


def test_a_chain_depends_on_how_long_pages_are():
    assert Chain(4).upto(range(8), 1) != Chain(8).upto(range(8), 1)


def test_what_is_known_ends_at_the_first_gap():
    prefixes, chains = Prefixes(4), Chain(4).upto(range(16), 4)
    for index in (0, 1, 3):
        prefixes.learn("here", chains[index], NAMES[index])
    assert prefixes.known("here", chains) == (NAMES[0], NAMES[1])
    assert prefixes.known("there", chains) == ()
    prefixes.learn("here", chains[2], NAMES[2])
    assert prefixes.known("here", chains) == tuple(NAMES[:4])


def test_the_name_heard_last_counts():
    prefixes = Prefixes()
    prefixes.learn("here", b"chain", NAMES[0])
    prefixes.learn("here", b"chain", NAMES[1])
    assert prefixes.known("here", [b"chain"]) == (NAMES[1],) and len(prefixes) == 1


def test_the_longest_unused_names_are_forgotten():
    prefixes = Prefixes(max_names=3)
    for number in range(3):
        prefixes.learn("here", bytes([number]), NAMES[number])
    assert prefixes.known("here", [bytes([0])])
    prefixes.learn("here", bytes([3]), NAMES[3])
    assert [bool(prefixes.known("here", [bytes([n])])) for n in range(4)] == [True, False, True, True]
    assert len(prefixes) == 3


@pytest.mark.parametrize(
    "other",
    [
        (hop(2, 2, 4, instance=2), [hop(1, 0, 2)], WireDType.F32),
        (hop(3, 2, 4), [hop(1, 0, 2)], WireDType.F32),
        (hop(2, 2, 5), [hop(1, 0, 2)], WireDType.F32),
        (hop(2, 2, 4), [hop(3, 0, 2)], WireDType.F32),
        (hop(2, 2, 4), [], WireDType.F32),
        (hop(2, 2, 4), [hop(1, 0, 1), hop(1, 1, 2)], WireDType.F32),
        (hop(2, 2, 4), [hop(1, 0, 2)], WireDType.BF16),
    ],
    ids=["restarted", "other peer", "other blocks", "other upstream", "no upstream", "other cut", "other wire"],
)
def test_a_name_holds_at_one_place_only(other: tuple[Hop, list[Hop], WireDType]):
    assert place_of(hop(2, 2, 4), [hop(1, 0, 2)], WireDType.F32) != place_of(*other)


def test_a_name_does_not_hold_behind_a_restarted_upstream_peer():
    """What it sent wrongly once is not to stay."""
    here = hop(2, 2, 4)
    assert place_of(here, [hop(1, 0, 2)], WireDType.F32) != place_of(here, [hop(1, 0, 2, instance=9)], WireDType.F32)


def test_names_that_come_before_their_tokens_are_learned_with_them():
    prefixes = Prefixes(4)
    naming = Naming(prefixes)
    naming.note("here", 0, [b"a", b"b"])
    naming.learn(range(7))
    assert naming.known("here", range(12)) == (b"a",)
    naming.learn(range(8))
    assert Naming(prefixes).known("here", range(12)) == (b"a", b"b")
    assert Naming(prefixes).known("here", [0, 1, 2, 9, 4, 5, 6, 7]) == ()
