from __future__ import annotations

import pytest

from swarm.errors import UsageError
from swarm.route import Hop, Route
from swarm.span import Span
from tests.support.swarm import a_peer


def hop(number: int, span: str) -> Hop:
    return Hop(a_peer(number), Span.parse(span))


def test_a_hop_uses_a_part_of_its_peers_span():
    assert str(Hop(a_peer(1, "0:10"), Span(4, 8))) == "00000000[4:8]"
    with pytest.raises(UsageError, match="outside"):
        Hop(a_peer(1, "0:10"), Span(8, 12))


def test_hops_have_to_touch():
    route = Route((hop(1, "0:10"), hop(2, "10:24")))
    assert route.span == Span(0, 24)
    for broken in [(hop(1, "0:10"), hop(2, "11:24")), (hop(1, "0:10"), hop(2, "9:24"))]:
        with pytest.raises(UsageError, match="breaks"):
            Route(broken)
    with pytest.raises(UsageError, match="at least one"):
        Route(())


def test_a_route_reads_from_left_to_right():
    assert str(Route((hop(1, "0:8"), hop(2, "8:24")))) == "00000000[0:8] → 00000000[8:24]"
