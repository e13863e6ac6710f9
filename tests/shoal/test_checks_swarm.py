"""What was brought back from a swarm, judged: doors, coverage, peers, clocks; and the command that would help."""

from __future__ import annotations

import pytest

from shoal.checks_swarm import Answer, Survey, judge, judge_answer, judge_clocks, judge_coverage
from swarm.address import Address
from swarm.peerinfo import PeerState
from tests.support.swarm import a_peer, a_view

DOOR = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWAFFhvXNpHGTRT7DYHGSmvcFCzjUGnkTQBhYbXbTcC1zq"
FAR = DOOR.replace("127.0.0.1", "203.0.113.7")
OPEN = ((DOOR, None),)


def states(found: Survey, join: str = DOOR, listen: Address | None = None) -> dict[str, str]:
    return {finding.check: finding.state for finding in judge(found, [join], listen)}


def test_nobody_at_the_only_door_is_one_thing_to_mend():
    found = Survey(((DOOR, "Connection refused"),), trouble="cannot join through it")
    assert states(found) == {"join address": "fail"}


def test_one_dead_door_of_two_is_a_warning():
    found = Survey(((FAR, "no answer within 3 s"), (DOOR, None)), views=(a_view(a_peer(1), a_peer(2)),))
    assert [f.state for f in judge(found, [FAR, DOOR], None) if f.check == "join address"] == ["warn", "ok"]


@pytest.mark.parametrize(
    ("trouble", "advice"),
    [("cannot join: clocks differ by more than 3 s", "set the clock"), ("cannot join through x", "/p2p/")],
)
def test_somebody_listens_but_the_swarm_does_not_let_us_in(trouble: str, advice: str):
    finding = judge(Survey(OPEN, trouble=trouble), [DOOR], None)[-1]
    assert finding.state == "fail" and advice in finding.advice


def test_an_empty_swarm_wants_a_first_peer():
    assert states(Survey(OPEN))["models"] == "warn"


def test_the_dht_port_is_judged_by_whether_the_swarm_called_back():
    view = (a_view(a_peer(1), a_peer(2)),)
    assert "DHT from outside" not in states(Survey(OPEN, views=view))
    assert states(Survey(OPEN, views=view, called_back=True))["DHT from outside"] == "ok"
    assert states(Survey(OPEN, views=view, callback="it cannot reach this machine back"))["DHT from outside"] == "fail"


def test_a_peer_on_loopback_is_of_no_use_to_a_swarm_elsewhere():
    view = (a_view(a_peer(1), a_peer(2)),)
    here = Address("127.0.0.1", 31330)
    assert states(Survey(((FAR, None),), views=view), FAR, here)["listen address"] == "warn"
    assert "listen address" not in states(Survey(OPEN, views=view), DOOR, here)


def test_gaps_have_to_be_mended_and_one_replica_is_a_warning_with_the_command():
    gap = judge_coverage(a_view(a_peer(1, "0:12"), a_peer(2, "16:24")), [DOOR])
    assert gap.state == "fail" and "nobody serves blocks 12:16" in gap.found and "--blocks 12:16" in gap.advice
    single = judge_coverage(a_view(a_peer(1, "0:24"), a_peer(2, "0:20")), [DOOR])
    assert single.state == "warn" and "one peer alone serves blocks 20:24" in single.found
    assert "--blocks 16:24" in single.advice
    assert judge_coverage(a_view(a_peer(1), a_peer(2)), [DOOR]).state == "ok"


def test_a_peer_that_is_loading_covers_nothing_yet_and_is_mentioned():
    finding = judge_coverage(a_view(a_peer(1, "0:12"), a_peer(2, "12:24", state=PeerState.JOINING)), [DOOR])
    assert finding.state == "fail" and "1 more still loading" in finding.found


def test_a_silent_a_strange_and_a_far_peer_are_told_apart():
    peer = a_peer(1)
    assert judge_answer(Answer(peer, rtt_s=0.01, skew_s=0.0)).state == "ok"
    silent = judge_answer(Answer(peer, trouble="10.0.0.1:4000: connection refused"))
    assert silent.state == "warn" and "connection refused" in silent.found
    assert "protocol" in judge_answer(Answer(peer, rtt_s=0.01, protocol="speaks protocol 9")).advice
    assert judge_answer(Answer(peer, rtt_s=0.4)).state == "warn"


@pytest.mark.parametrize(
    ("skews", "state", "said"),
    [
        ([0.1, 0.2, -0.1], "ok", "behind"),
        ([2.0, 2.1, 2.2], "warn", "2.10 s behind"),
        ([-4.0, -4.1, 0.0], "fail", "4.00 s before"),
        ([0.0, 0.1, 9.0], "warn", "off by +9.0 s"),
    ],
)
def test_clocks_are_compared_with_the_middle_one(skews: list[float], state: str, said: str):
    (finding,) = judge_clocks([Answer(a_peer(n), skew_s=skew) for n, skew in enumerate(skews, 1)])
    assert finding.state == state and said in finding.found


def test_without_answers_no_clock_is_judged():
    assert judge_clocks([Answer(a_peer(1), trouble="dead")]) == []
