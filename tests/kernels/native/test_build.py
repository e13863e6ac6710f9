"""The native build: no instruction set leaks into another, sources keep to the house rules, nothing hides a package."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted(p for p in (ROOT / "kernels/native").iterdir() if p.suffix in (".cpp", ".hpp"))
# Packages of the checkout that no wheel carries.
AT_HOME = {"benchmarks", "examples", "simulations", "tests"}
# nm's letters for a definition that the linker may merge with, or take for, one of the same name in another file.
SHARED = re.compile(r"^[0-9a-f]* ?([A-Zuwv]) (.+)$")


def leaks(symbols: str, variant: str) -> list[str]:
    """What an object file of ``variant`` gives to the linker under a name that is not the variant's own.

    The linker keeps one copy of an inline function or template that several files define, whichever comes first. If
    that copy was compiled for AVX-512, every caller runs it, also on a machine that has no AVX-512.
    """
    own = re.compile(rf"\b{variant}::|\bkernels_{variant}\b")
    found = (SHARED.match(line) for line in symbols.splitlines())
    return [match[2] for match in found if match and match[1] != "U" and not own.search(match[2])]


@pytest.mark.parametrize("variant", ["avx2", "avx512"])
def test_a_variant_defines_nothing_that_another_file_could_take(variant: str):
    objects = sorted(ROOT.glob(f"build/*/CMakeFiles/variant_{variant}.dir/variant.cpp.o"))
    if not objects or shutil.which("nm") is None:
        pytest.skip("this variant was not built here, or there is no nm to look into it")
    for path in objects:
        command = ["nm", "-C", "--defined-only", "--extern-only", str(path)]
        symbols = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert f"kernels_{variant}" in symbols, f"{path} is not the variant's table"
        assert leaks(symbols, variant) == [], "make them static, or put them into the variant's own namespace"


def test_a_leak_is_recognised():
    symbols = "\n".join(
        [
            "0000000000000000 D shoal::kernels_avx512",
            "0000000000000000 T shoal::avx512::linear(shoal::Pool&)",
            "0000000000000000 W void shoal::parallel<shoal::avx512::Task>(shoal::Pool&, shoal::avx512::Task)",
            "0000000000000000 W std::vector<int, std::allocator<int> >::push_back(int const&)",
            "0000000000000000 u shoal::table()::once",
            "                 U memset",
        ]
    )
    assert leaks(symbols, "avx512") == [
        "std::vector<int, std::allocator<int> >::push_back(int const&)",
        "shoal::table()::once",
    ]
    assert "shoal::avx512::linear(shoal::Pool&)" in leaks(symbols, "avx2")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_a_source_is_one_noun_of_at_most_350_lines_and_says_first_what_it_is(path: Path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 350, f"{path.name} has {len(lines)} lines; look for the second noun in it"
    assert re.match(r"// \S.{20,}", lines[0]), f"{path.name} does not begin with a comment that says what it is"


def test_where_there_is_a_compiler_the_extension_is_built():
    """An install survives a broken source file as it survives a missing compiler; here is where that is noticed."""
    compilers = [os.environ.get("CXX") or "c++", "g++", "clang++"]
    if not any(shutil.which(compiler) for compiler in compilers):
        pytest.skip("no C++ compiler at hand")
    assert importlib.util.find_spec("shoal_native"), "make -B setup, and read its warning"


def test_the_extension_lies_outside_the_checkouts_packages():
    spec = importlib.util.find_spec("shoal_native")
    if spec is None or spec.origin is None:
        pytest.skip("the native extension is not built")
    assert Path(spec.origin).parent.name == "site-packages"


def test_the_installed_finder_leaves_every_package_to_the_checkout():
    for package in shipped():
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin == str(ROOT / package / "__init__.py")
        assert "scikit" not in type(spec.loader).__name__.lower()


def test_a_wheel_carries_every_package():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - AT_HOME
    assert packages == set(shipped())


def shipped() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]
    return settings["wheel"]["packages"]
