from __future__ import annotations

from typing import Any

import pytest

from dashboard import sightings as book
from dashboard.sightings import AGAIN_S, ASK_EVERY_S, FRESH_S, GONE_S, Sighting, Sightings, Standing
from swarm.peerinfo import PeerInfo, PeerState
from tests.dashboard.cast import info, stats
from tests.support.swarm import NOW, a_peer


class Stage:
    """One book and its two clocks."""

    def __init__(self) -> None:
        self.book = Sightings()
        self.passed = 0.0

    def later(self, seconds: float) -> None:
        self.passed += seconds

    def look(self, *peers: PeerInfo) -> None:
        self.book.look(peers, NOW + self.passed, self.passed)

    def ask(self) -> list[str]:
        """Who is asked now."""
        return [peer.peer_id for peer in self.book.due(self.passed)]

    def hear(self, peer: PeerInfo, decode: int = 0, rtt_s: float = 0.001, **changes: Any) -> None:
        assert peer.peer_id in self.ask()
        self.book.heard(peer, info(peer, stats(decode)), rtt_s, self.passed)

    def silence(self, peer: PeerInfo) -> None:
        assert peer.peer_id in self.ask()
        self.book.silent(peer, NOW + self.passed, self.passed)

    @property
    def all(self) -> tuple[Sighting, ...]:
        self.book.settle(NOW + self.passed, self.passed)
        return self.book.all(self.passed)

    @property
    def only(self) -> Sighting:
        (sighting,) = self.all
        return sighting


A, B = a_peer(1, "0:12"), a_peer(2, "12:24")


def test_a_peer_is_known_to_answer_once_it_has():
    stage = Stage()
    stage.look(A)
    assert (stage.only.standing, stage.only.reachable, stage.only.serves) == (Standing.READY, None, False)
    stage.hear(A)
    assert (stage.only.reachable, stage.only.serves) == (True, True)


def test_one_silence_is_none_and_two_are_unreachable_within_seconds():
    stage = Stage()
    stage.look(A)
    stage.hear(A)
    stage.later(ASK_EVERY_S)
    stage.silence(A)
    assert stage.only.reachable is True
    assert stage.ask() == []
    stage.later(AGAIN_S)
    stage.silence(A)
    assert (stage.only.reachable, stage.only.standing, stage.only.serves) == (False, Standing.READY, False)
    assert stage.only.tokens_per_s is None and stage.only.rtt_s is None
    assert stage.passed <= 5 - 2 * 1.5, "with two questions that time out, still within 5 s"
    stage.later(20)
    stage.look(a_peer(1, "0:12", expires_at=NOW + 80))
    stage.hear(A)
    assert stage.only.reachable is True


def test_a_peer_that_stays_silent_is_asked_less_and_less_often():
    stage = Stage()
    stage.look(A)
    pauses: list[float] = []
    for _ in range(8):
        begun = stage.passed
        while not stage.ask():
            stage.later(0.25)
        pauses.append(stage.passed - begun)
        stage.book.silent(A, NOW, stage.passed)
    assert pauses == sorted(pauses) and pauses[-1] == book.DOUBTFUL_S


def test_nobody_is_asked_twice_at_once():
    stage = Stage()
    stage.look(A, B)
    assert stage.ask() == [A.peer_id, B.peer_id]
    stage.later(60)
    assert stage.ask() == []


def test_a_killed_peer_is_gone_when_its_record_has_expired():
    stage = Stage()
    stage.look(A)
    stage.hear(A)
    stage.later(42)
    stage.look(A)
    for _ in range(2):
        stage.later(ASK_EVERY_S / 3)
        stage.silence(A)
    assert stage.only.standing is Standing.READY and stage.only.reachable is False
    stage.later(3)
    stage.look()
    assert (stage.only.standing, stage.only.reachable, stage.only.tokens_per_s) == (Standing.GONE, False, None)
    assert stage.ask() == []
    stage.later(GONE_S)
    assert stage.all == ()


def test_a_peer_that_withdraws_is_gone_at_once():
    stage = Stage()
    stage.look(A)
    stage.hear(A)
    stage.later(ASK_EVERY_S)
    leaving = a_peer(1, "0:12", state=PeerState.DRAINING)
    assert stage.ask()
    stage.book.heard(A, info(leaving, stats()), 0.001, stage.passed)
    assert stage.only.standing is Standing.DRAINING and not stage.only.serves
    stage.look()
    assert stage.only.standing is Standing.GONE


def test_a_look_that_misses_a_peer_which_answers_does_not_bury_it():
    stage = Stage()
    stage.look(A, B)
    stage.hear(A)
    stage.book.heard(B, info(B, stats()), 0.001, stage.passed)
    stage.look(B)
    assert [s.standing for s in stage.all] == [Standing.READY] * 2
    stage.later(46)
    stage.look(a_peer(2, "12:24", expires_at=NOW + 90))
    assert [s.standing for s in stage.all] == [Standing.GONE, Standing.READY], "nobody finds it any more"


def test_without_a_directory_those_who_answer_stay():
    stage = Stage()
    stage.look(A, B)
    stage.hear(A)
    stage.book.silent(B, NOW, 0.0)
    stage.later(50)
    stage.book.lost_touch(NOW + 50, 50)
    assert stage.book.in_touch is False
    assert [s.standing for s in stage.all] == [Standing.READY, Standing.GONE]


def test_a_peer_that_loads_answers_nobody_and_is_not_unreachable():
    stage = Stage()
    loading = a_peer(1, state=PeerState.JOINING)
    stage.look(loading)
    for _ in range(3):
        stage.later(10)
        stage.silence(loading)
    assert (stage.only.standing, stage.only.reachable) == (Standing.JOINING, None)


def test_the_answer_counts_while_it_is_fresh_then_the_record():
    stage = Stage()
    stage.look(A)
    stage.ask()
    stage.book.heard(A, info(a_peer(1, "0:12", sessions=7), stats(used=9)), 0.001, stage.passed)
    assert stage.only.info.sessions == 7 and stage.only.stats is not None
    stage.later(FRESH_S + 1)
    assert stage.only.info.sessions == 0 and stage.only.stats is None


def test_tokens_a_second_come_from_readings_and_round_trips_from_warm_connections():
    stage = Stage()
    stage.look(A)
    for turn in range(4):
        stage.hear(A, decode=turn * 30, rtt_s=1.0 if turn == 0 else 0.002)
        assert stage.only.rtt_s == (None if turn == 0 else 0.002)
        stage.later(ASK_EVERY_S)
    assert stage.only.tokens_per_s == 20.0
    assert stage.only.rtt_s == 0.002


def test_a_restarted_peer_begins_anew():
    stage = Stage()
    stage.look(A)
    stage.hear(A, decode=0)
    stage.later(ASK_EVERY_S)
    stage.hear(A, decode=90)
    assert stage.only.tokens_per_s == 60.0
    again = a_peer(1, "0:12", instance=2)
    stage.look(again)
    assert stage.only.tokens_per_s is None and stage.only.reachable is None
    stage.later(ASK_EVERY_S)
    asked = stage.book.due(stage.passed)
    stage.book.silent(A, NOW, stage.passed)  # late news of the life before
    stage.book.heard(A, info(A, stats(5)), 0.001, stage.passed)
    assert stage.only.reachable is None
    assert asked == [again]


def test_strangers_in_any_number_do_not_push_out_who_answers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(book, "MAX_ROWS", 4)
    stage = Stage()
    stage.look(A)
    stage.hear(A)
    crowd = [a_peer(number) for number in range(10, 40)]
    stage.look(A, *crowd)
    assert len(stage.all) == 4 and stage.all[0].info == A
    for _ in range(3):
        for peer in stage.book.due(stage.passed):
            if peer == A:
                stage.book.heard(A, info(A, stats()), 0.001, stage.passed)
            else:
                stage.book.silent(peer, NOW, stage.passed)
        stage.later(5)
    stage.look(A, *crowd, B)
    assert len(stage.all) == 4 and stage.all[0].reachable is True
    for _ in range(3):
        for peer in stage.book.due(stage.passed):
            stage.book.silent(peer, NOW, stage.passed) if peer != A else stage.book.heard(A, info(A), 0.1, stage.passed)
        stage.later(5)
    stage.look(B, A)
    assert B.peer_id in {s.info.peer_id for s in stage.all}, "those who never answered make room"
