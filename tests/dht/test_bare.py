from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dht.bare import import_bare

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package whose ``__init__`` must not run."""
    package = tmp_path / "heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('was run')")
    (package / "part.py").write_text("VALUE = 7")
    monkeypatch.syspath_prepend(tmp_path)
    yield "heavy_package"
    for name in ("heavy_package", "heavy_package.part"):
        sys.modules.pop(name, None)


def test_a_part_is_imported_and_the_packages_own_code_is_not_run(heavy: str):
    import_bare(heavy)
    from heavy_package.part import VALUE  # pyright: ignore

    assert VALUE == 7


def test_what_is_imported_already_stays():
    import json

    import_bare("json")
    assert sys.modules["json"] is json


def test_a_package_that_is_not_there_is_left_to_the_import(heavy: str):
    import_bare("no_such_package_here")
    assert "no_such_package_here" not in sys.modules


def test_the_dht_does_without_hiveminds_training_half():
    code = (
        "import dht.node, sys; print([name for name in ('scipy', 'pydantic', 'hivemind.optim') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "[]", ran.stderr
