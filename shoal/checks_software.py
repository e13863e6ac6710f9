"""What runs here: Python, the packages, the native kernels and whether they keep the bits of c8, the compiler.

Every check is split in two: a reader that asks the system, and a judge that takes plain values and can be tried on
machines that are not at hand.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

from shoal.finding import Finding
from shoal.plain import plain

LEAST_PYTHON = (3, 11)
LEAST_COMPILERS = {"gcc": 12, "clang": 14}
NAMED = ("torch", "hivemind", "grpcio", "transformers")  # the versions that a report of trouble needs
REBUILD = "make -B setup, or pip install -v --no-deps --force-reinstall . (its output says why)"


def python() -> Finding:
    return judge_python(sys.version_info[:3], sys.executable)


def judge_python(version: Sequence[int], where: str) -> Finding:
    said = f"{'.'.join(map(str, version))} at {where}"
    if tuple(version[:2]) < LEAST_PYTHON:
        return Finding("python", "fail", said, "install Python 3.11 or newer; then make PYTHON=python3.11 setup")
    return Finding("python", "ok", said)


def packages() -> Finding:
    """Whether what Shoal needs is installed, in versions that it was written for."""
    try:
        wanted = metadata.requires("shoal") or []
    except metadata.PackageNotFoundError:
        return Finding("packages", "warn", "Shoal runs from its source without being installed", "make setup")
    installed: dict[str, str] = {}
    for name, _ in map(read_requirement, wanted):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return judge_packages(wanted, installed)


def judge_packages(wanted: Sequence[str], installed: Mapping[str, str]) -> Finding:
    """``wanted`` as pyproject.toml has them; those of an extra do not count."""
    needed = [read_requirement(text) for text in wanted if "extra ==" not in text]
    missing = [name for name, _ in needed if name not in installed]
    old = [
        f"{name} {installed[name]} (needs {least})"
        for name, least in needed
        if name in installed and _numbers(installed[name]) < _numbers(least)
    ]
    if missing or old:
        said = "; ".join(
            [*(["missing: " + ", ".join(missing)] if missing else []), *(["too old: " + ", ".join(old)] if old else [])]
        )
        return Finding("packages", "fail", said, "make setup, or pip install -c constraints.txt .")
    versions = ", ".join(f"{name} {installed[name]}" for name in NAMED if name in installed)
    return Finding("packages", "ok", f"all {len(needed)}; {versions}")


def read_requirement(text: str) -> tuple[str, str]:
    """``"torch>=2.6; …"`` → ("torch", "2.6"). The least version is "" where none is named."""
    name = re.match(r"[A-Za-z0-9._-]+", text)
    least = re.search(r">=\s*([0-9.]+)", text.split(";")[0])
    return (name[0] if name else text, least[1] if least else "")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def kernels() -> Finding:
    """Loads the arithmetic and computes a tiny Block with every variant that runs here."""
    from kernels import REFERENCE, VARIABLE, select
    from kernels.selfcheck import departures

    chosen = select(threads=1)
    try:
        from kernels.native import available
    except ImportError as error:
        return judge_kernels(chosen.name, (), {}, why=" ".join(str(error).split()))
    wrong = {name: departures(one, one.device) for name in available() for one in [select(name, threads=1)]}
    if chosen.name == REFERENCE:
        wrong[REFERENCE] = departures(chosen, chosen.device)
    return judge_kernels(chosen.name, available(), wrong, forced=os.environ.get(VARIABLE, ""))


def judge_kernels(
    chosen: str, available: Sequence[str], wrong: Mapping[str, Sequence[str]], *, why: str = "", forced: str = ""
) -> Finding:
    """``available``: native variants, best first; ``wrong``: by variant, the parts whose bits are not those of c8."""
    if not available:
        said = f"not built: plain torch computes, some hundred times slower ({plain(why, 120)})"
        return Finding("kernels", "fail", said, f"install gcc ≥ 12 or clang ≥ 14, then {REBUILD}")
    strange = {name: parts for name, parts in wrong.items() if parts}
    if strange:
        said = "; ".join(f"{name} has other bits than c8 in {', '.join(parts)}" for name, parts in strange.items())
        sound = next((name for name in (*available, "reference") if name not in strange), "reference")
        advice = f"compute with SHOAL_ISA={sound}, rebuild ({REBUILD}), and report this processor"
        return Finding("kernels", "fail", said, advice)
    said = f"{chosen} computes; {', '.join(wrong)} {'have' if len(wrong) > 1 else 'has'} the written-down bits of c8"
    if forced and chosen != available[0]:
        return Finding("kernels", "warn", f"{said}; SHOAL_ISA={forced}", f"unset SHOAL_ISA: {available[0]} is faster")
    return Finding("kernels", "ok", said)


def device(name: str) -> Finding:
    """Whether ``name`` ("cuda", "cuda:1") can be had, and which profile it keeps. Raises UsageError where it cannot."""
    from kernels.cuda import open_device

    gpu = open_device(name)
    profile, free = gpu.profile(), gpu.free_bytes / 2**30
    said = f"{name}: {free:.1f} GiB free; profile {profile}"
    if profile != "c8":
        return Finding(
            "device", "warn", f"{said}: its bits are not those of c8", "clients use it with --profile c8-approx only"
        )
    return Finding("device", "ok", said)


def compiler(built: bool, environ: Mapping[str, str] = os.environ) -> Finding:
    """``built``: whether the native kernels are there already."""
    names = [environ["CXX"]] if environ.get("CXX") else ["c++", "g++", "clang++"]
    found = next((path for name in names if (path := shutil.which(name.split()[0]))), None)
    if found is None:
        return judge_compiler("", built)
    try:
        done = subprocess.run(
            [found, "--version"], capture_output=True, text=True, timeout=5, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        return judge_compiler(f"{found}: {error}", built)
    return judge_compiler(done.stdout.partition("\n")[0], built)


def judge_compiler(banner: str, built: bool) -> Finding:
    """``banner``: the first line of ``c++ --version``; empty where there is none."""
    said = plain(banner, 80) or "none found"
    kind = "clang" if "clang" in banner else "gcc"
    version = re.search(r"(\d+)\.\d+\.\d+", banner)
    if version is not None and int(version[1]) >= LEAST_COMPILERS[kind]:
        return Finding("compiler", "ok", said)
    if built:
        return Finding("compiler", "ok", f"{said}; not needed, the kernels are built")
    return Finding(
        "compiler", "fail", said, "install g++ ≥ 12 or clang++ ≥ 14 (Debian: apt install g++), then make -B setup"
    )
