"""The pages hold together: links lead somewhere, commands in the text exist, quoted errors are those of the source."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import PYTHONS, ROOT, SHELLS, all_blocks, pages

PAGES = pages()
LANGUAGES = {*SHELLS, *PYTHONS, "", "json", "yaml", "ini", "toml", "text", "nginx", "promql", "protobuf", "proto"}
TOOLS = r"shoal (?:serve|identity|generate|chat|gateway|top|doctor|dashboard|demo)|python -m [a-z_]+(?:\.[a-z_]+)?"
PACKAGES = ("swarm", "proto", "kernels", "model", "dht", "peer", "client", "dashboard", "gateway", "shoal")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def anchors(path: Path) -> frozenset[str]:
    """What headings are called in links, as GitHub does it."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    heads = (head.strip().lower() for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    return frozenset(re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_within_the_repository_leads_somewhere(path: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{name_of(path)} links to {target}"
        assert there.is_relative_to(ROOT), f"{name_of(path)} links out of the repository: {target}"
        if anchor:
            assert anchor in anchors(there), f"{name_of(path)} links to {target}, which has no such heading"


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    assert [path.name for path in PAGES if path.parent.name == "docs" and f"({path.name}" not in index] == ["README.md"]


def test_blocks_name_their_language_and_commands_do_not_hide():
    for block in all_blocks():
        assert block.language in LANGUAGES, f"{block}: {block.language!r} is new here; say in blocks.py whether it runs"
        if block.language not in SHELLS + PYTHONS:
            assert not re.search(rf"^(\$ |{TOOLS}|curl )", block.text, re.MULTILINE), f"{block}: say sh or bash"


@functools.cache
def options_of(tool: str) -> str:
    """A text that names every option of ``tool``: its --help; of a benchmark, which imports torch first, its source."""
    words = tool.split()
    if words[0] == "python" and words[2].startswith("benchmarks."):
        file = ROOT / f"{words[2].replace('.', '/')}.py"
        assert file.exists(), f"there is no {words[2]}"
        return "\n".join(path.read_text() for path in (file, *sorted((ROOT / "benchmarks" / "kit").glob("*.py"))))
    command = [sys.executable, "-m", "shoal", words[1]] if words[0] == "shoal" else [sys.executable, *words[1:]]
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{tool} --help: {done.stderr[-500:]}"
    return done.stdout


def inline_commands() -> list[tuple[str, str]]:
    """(page, command) for every command in running text."""
    found: list[tuple[str, str]] = []
    for path in PAGES:
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        found += [(name_of(path), " ".join(code.split())) for code in re.findall(r"`([^`]+)`", text)]
    return [(page, code) for page, code in found if re.match(TOOLS, code)]


@pytest.mark.swarm
@pytest.mark.parametrize(
    "tool", sorted({found[0] for _, code in inline_commands() if (found := re.match(TOOLS, code))})
)
def test_commands_in_running_text_exist_with_their_options(tool: str):
    said = options_of(tool)
    for page, code in inline_commands():
        found = re.match(TOOLS, code)
        if found is None or found[0] != tool:
            continue
        for option in re.findall(r"(?<=[\s\[])(--[a-z][a-z-]*)", code):
            assert option in said, f"{page}: {tool} has no {option} ({code})"


@functools.cache
def sentences() -> str:
    """Every text in the source; what is put into one when it runs is …."""
    texts: list[str] = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    texts.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
    return "\n".join(texts)


def quoted_errors() -> list[str]:
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs" / "troubleshoot.md").read_text(), re.MULTILINE)
    return [line for row in rows for line in re.findall(r"`([^`]+)`", row) if " " in line and "shoal top" not in line]


def test_errors_are_quoted():
    assert len(quoted_errors()) > 20


@pytest.mark.parametrize("line", quoted_errors())
def test_an_error_that_is_quoted_is_in_the_source(line: str):
    pieces = [piece.strip() for piece in line.split("…") if len(piece.strip()) > 3]
    assert pieces
    for piece in pieces:
        assert piece in sentences(), f"nobody says {piece!r}"
