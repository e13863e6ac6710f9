"""Python, packages, kernels, compiler: judged by values of machines that are not at hand, and read once here."""

from __future__ import annotations

import pytest

from shoal import checks_software as checks


def test_an_old_python_has_to_be_replaced():
    assert checks.judge_python((3, 11, 0), "/usr/bin/python").state == "ok"
    old = checks.judge_python((3, 10, 14), "/usr/bin/python")
    assert old.state == "fail" and "3.11" in old.advice


WANTED = ["torch>=2.6", "hivemind>=1.1.12", "pytest>=8; extra == 'dev'", 'ruff>=0.9; extra == "dev"', "rich"]


@pytest.mark.parametrize(
    ("installed", "state", "said"),
    [
        ({"torch": "2.13.0+cpu", "hivemind": "1.1.12", "rich": "13.7"}, "ok", "all 3; torch 2.13.0+cpu"),
        ({"torch": "2.5.9", "hivemind": "1.1.12", "rich": "1"}, "fail", "too old: torch 2.5.9 (needs 2.6)"),
        ({"torch": "2.6", "hivemind": "1.2"}, "fail", "missing: rich"),
        ({"torch": "2.10.0", "hivemind": "1.10", "rich": "1"}, "ok", "2.10.0"),  # as numbers, not as text
    ],
)
def test_what_is_missing_or_too_old_is_named(installed: dict[str, str], state: str, said: str):
    finding = checks.judge_packages([text.replace("'", '"') for text in WANTED], installed)
    assert finding.state == state and said in finding.found


def test_kernels_that_were_not_built_come_with_how_to_build_them():
    finding = checks.judge_kernels("reference", (), {}, why="No module named 'shoal_native'")
    assert finding.state == "fail" and "shoal_native" in finding.found and "make -B setup" in finding.advice


def test_a_variant_with_other_bits_is_named_with_one_that_is_sound():
    finding = checks.judge_kernels("avx512", ("avx512", "avx2"), {"avx512": ["norm"], "avx2": []})
    assert finding.state == "fail" and "avx512 has other bits than c8 in norm" in finding.found
    assert "SHOAL_ISA=avx2" in finding.advice


def test_a_slow_variant_by_choice_is_a_warning_and_the_best_by_choice_is_not():
    slow = checks.judge_kernels("portable", ("avx2", "portable"), {"avx2": [], "portable": []}, forced="portable")
    assert slow.state == "warn" and "avx2 is faster" in slow.advice
    assert checks.judge_kernels("avx2", ("avx2",), {"avx2": []}, forced="avx2").state == "ok"


@pytest.mark.parametrize(
    ("banner", "built", "state"),
    [
        ("c++ (Debian 12.2.0-14) 12.2.0", False, "ok"),
        ("Debian clang version 14.0.6", False, "ok"),
        ("g++ (GCC) 9.4.0", False, "fail"),
        ("Ubuntu clang version 13.0.1", False, "fail"),
        ("g++ (GCC) 9.4.0", True, "ok"),
        ("", True, "ok"),
        ("", False, "fail"),
    ],
)
def test_a_compiler_counts_only_where_the_kernels_are_still_to_be_built(banner: str, built: bool, state: str):
    assert checks.judge_compiler(banner, built).state == state


def test_a_named_compiler_that_is_not_there_is_none():
    assert checks.compiler(False, {"CXX": "no-such-compiler"}).state == "fail"


def test_here_it_looks_without_failing():
    assert checks.python().state == "ok"
    assert checks.packages().state in ("ok", "warn")
