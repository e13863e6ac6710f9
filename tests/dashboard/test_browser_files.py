"""The page's files: short, no markup made of strings, no library that nobody wrote down. Needs no browser."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from dashboard.app import STATIC
from tests.support.browser import AXE

VENDOR = STATIC / "vendor"
OURS = sorted(p for p in STATIC.rglob("*") if p.suffix in (".js", ".css", ".html") and VENDOR not in p.parents)
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"


def named(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


def test_every_vendored_file_is_the_one_that_the_table_names():
    table = (VENDOR / "VENDORED.md").read_text()
    rows = dict(re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", table, re.MULTILINE))
    found = {p.name for p in VENDOR.iterdir() if p.suffix not in (".md", ".LICENSE")}
    assert found == set(rows)
    for name, digest in rows.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_every_vendored_library_brings_its_licence():
    for name in re.findall(r"\S+\.LICENSE", (VENDOR / "VENDORED.md").read_text()):
        assert (VENDOR / name).stat().st_size > 500


def test_axe_is_the_one_that_was_looked_at():
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == AXE_SHA256


@pytest.mark.parametrize("path", OURS, ids=named)
def test_a_file_is_short_and_says_first_what_it_is(path: Path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 350
    assert lines[0].startswith(("//", "/*", "<!doctype"))


@pytest.mark.parametrize("path", OURS, ids=named)
def test_nothing_makes_markup_or_code_of_strings_or_asks_a_third_party(path: Path):
    text = path.read_text()
    for never in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "://"):
        assert never not in text, f"{named(path)} has {never}"


def test_the_document_has_no_inline_script_and_no_inline_style():
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))


def test_every_file_that_is_named_exists():
    for path in OURS:
        for name in re.findall(r'"/static/([\w./-]+)"', path.read_text()):
            assert (STATIC / name).is_file(), f"{named(path)} names {name}"
