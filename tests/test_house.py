"""The house holds: imports point down, siblings never meet, foreign libraries keep to their rooms, files stay short."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "swarm": 0, "proto": 1, "kernels": 1, "model": 2, "dht": 2, "peer": 3, "client": 3,
    "dashboard": 4, "simulations": 4, "benchmarks": 4, "gateway": 5, "shoal": 6, "examples": 7, "tests": 8,
}  # fmt: skip
GENERATED = {"proto/shoal_pb2.py"}
# Where a library may be imported at all; a library not named here is free.
ROOMS = {
    "hivemind": ("dht/node.py",),
    "grpc": ("proto/", "peer/service.py", "peer/server.py"),
    "triton": ("kernels/triton_",),
    "torch": (
        "kernels/",
        "model/",
        "proto/tensors.py",
        "peer/runner.py",
        "peer/engine.py",
        "peer/probe.py",
        "peer/loading.py",
        "benchmarks/",
    ),
}


def sources() -> list[Path]:
    return sorted(p for package in FLOORS if package != "tests" for p in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}: relative import; write the full name"
            yield node.module or ""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_imports_point_down_and_siblings_never_meet(path: Path):
    package = relative(path).split("/")[0]
    for module in imports(path):
        target = module.split(".")[0]
        if target in FLOORS and target != package:
            assert FLOORS[target] < FLOORS[package], f"{relative(path)} imports {module}"


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_a_foreign_library_stays_in_its_room(path: Path):
    for module in imports(path):
        rooms = ROOMS.get(module.split(".")[0])
        if rooms is not None:
            assert relative(path).startswith(rooms), f"{relative(path)} imports {module}"


def test_the_ground_floor_knows_only_the_standard_library():
    for path in (ROOT / "swarm").glob("*.py"):
        for module in imports(path):
            top = module.split(".")[0]
            assert top == "swarm" or top in sys.stdlib_module_names, f"{relative(path)} imports {module}"


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_a_file_is_one_noun_of_at_most_350_lines(path: Path):
    if relative(path) not in GENERATED:
        lines = len(path.read_text().splitlines())
        assert lines <= 350, f"{relative(path)} has {lines} lines; look for the second noun in it"


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_a_file_says_first_what_it_is(path: Path):
    if relative(path) not in GENERATED and path.name not in ("__main__.py",):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{relative(path)} has no opening docstring"
