from __future__ import annotations

from typing import get_args

from swarm.profile import APPROXIMATE, PROFILES, Profile, accepts


def test_the_profiles_are_those_of_the_type():
    assert get_args(Profile) == PROFILES


def test_who_asks_for_less_than_exact_takes_exact_too_and_nobody_else_mixes():
    assert accepts("c8", "c8")
    assert accepts(APPROXIMATE, APPROXIMATE)
    assert accepts(APPROXIMATE, "c8")
    assert not accepts("c8", APPROXIMATE)
    assert not accepts(APPROXIMATE, "f32")
    assert not accepts("f32", "c8")
