from __future__ import annotations

import re

import swarm.errors
from swarm.errors import FAULTS, Fault, FaultCode, ModelError, NoRoute, ShoalError, SwarmError, UsageError
from swarm.span import Span


def kinds(base: type[ShoalError]) -> list[type[ShoalError]]:
    return [k for child in base.__subclasses__() for k in (child, *kinds(child)) if k.__module__ == "swarm.errors"]


def test_every_fault_has_its_own_code_and_every_code_its_fault():
    assert set(FAULTS) == set(FaultCode)
    assert set(kinds(Fault)) == set(FAULTS.values())
    assert all(kind.code is code for code, kind in FAULTS.items())


def test_the_tree_at_the_top_of_the_file_is_the_tree():
    drawn = re.findall(r"[├└]── (\w+)", swarm.errors.__doc__ or "")
    assert sorted(drawn) == sorted(kind.__name__ for kind in kinds(ShoalError))


def test_each_branch_has_its_exit_status():
    assert (UsageError.exit_status, ModelError.exit_status, SwarmError.exit_status, Fault.exit_status) == (2, 3, 4, 5)


def test_a_missing_route_keeps_what_was_generated():
    error = NoRoute("nobody serves 0:4", [Span(0, 4)], "def f", [1, 2])
    assert (error.missing, error.text, error.token_ids, str(error)) == (
        (Span(0, 4),),
        "def f",
        (1, 2),
        "nobody serves 0:4",
    )
