"""What `pip install` gives people: every package, the data beside the code, the command, and nothing of the workshop.

The wheel is built without its kernels (that takes a compiler and half a minute; tests/kernels/native has them) and with
the build tools at hand, so nothing is fetched.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.deploy.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["scikit-build"]["wheel"]["packages"]
TYPED = ("swarm", "proto", "client", "shoal")  # what people import


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("scikit_build_core", reason="scikit-build-core is not installed: pip install .[dev]")
    into = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--disable-pip-version-check", "--wheel-dir", str(into), "-C", "wheel.cmake=false",
         "-C", f"build-dir={into}/build", str(ROOT)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (made,) = into.glob("*.whl")
    return zipfile.ZipFile(made)


@pytest.fixture(scope="module")
def names(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if not name.endswith("/")}


def test_every_module_and_everything_beside_it_is_in(names: set[str]):
    left_out = {".cpp", ".hpp", ".pyc"}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in left_out and path.name != "CMakeLists.txt":
                assert path.relative_to(ROOT).as_posix() in names


def test_the_sample_model_and_the_page_are_in(names: set[str]):
    sample = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {f"model/sample/{name}" for name in sample} <= names
    assert "dashboard/static/index.html" in names
    assert {f"{package}/py.typed" for package in TYPED} <= names


def test_nothing_of_the_workshop_is_in(names: set[str]):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert not [name for name in names if name.endswith((".cpp", ".hpp", ".pyc"))]


def test_every_package_of_the_house_is_named():
    from tests.test_house import FLOORS

    workshop = {"tests", "examples", "benchmarks", "simulations"}
    assert set(PACKAGES) == {package for package in FLOORS if (ROOT / package).is_dir()} - workshop


def test_the_command_runs_from_the_wheel_alone(wheel: zipfile.ZipFile, tmp_path: Path):
    wheel.extractall(tmp_path)
    (points,) = tmp_path.glob("*.dist-info/entry_points.txt")
    assert "shoal = shoal.main:main" in points.read_text().replace("shoal=", "shoal = ")
    for tool in ("serve", "gateway", "dashboard", "identity", "generate"):
        run = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from shoal.main import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-P", "-c", run, tool, "--help"],
            capture_output=True, text=True, timeout=60, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
