from __future__ import annotations

from typing import get_args

from swarm.profile import PROFILES, Profile


def test_the_profiles_are_those_of_the_type():
    assert get_args(Profile) == PROFILES
