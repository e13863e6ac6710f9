"""The examiner: grammars that would hang, fill or break whoever compiled them break a child instead."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model.examiner import TOO_MUCH, Examiner
from model.grammar import json_grammar
from swarm.errors import BadGrammar
from swarm.sampling import Grammar, GrammarKind

SAMPLE = Path(__file__).resolve().parent.parent.parent / "model" / "sample" / "tokenizer.json"
FINE = json_grammar({"type": "object"})
ENDLESS = json_grammar({"allOf": [{"type": "string", "pattern": f".*{n}.*"} for n in range(100, 160)]})


@pytest.fixture
async def examiner() -> AsyncIterator[Examiner]:
    async with Examiner(SAMPLE, 4096, [0]) as made:
        yield made


async def test_what_compiles_passes_and_what_does_not_is_named(examiner: Examiner):
    await examiner.examine(FINE)
    with pytest.raises(BadGrammar, match="Invalid type: objekt"):
        await examiner.examine(json_grammar({"type": "objekt"}))
    with pytest.raises(BadGrammar, match="grammar: "):
        await examiner.examine(Grammar(GrammarKind.LARK, "start: nowhere"))
    await examiner.examine(Grammar(GrammarKind.LARK, 'start: "a" | "ü\\n"'))


@pytest.mark.timeout(60)
async def test_what_never_ends_is_ended_and_the_next_one_passes(examiner: Examiner):
    await examiner.examine(FINE)
    process = examiner._process
    assert process is not None
    with pytest.raises(BadGrammar, match=TOO_MUCH.partition(";")[0]):
        await examiner.examine(ENDLESS)
    assert examiner._process is None and process.returncode is not None, "the child is gone"
    await examiner.examine(json_grammar({"type": "integer"}))
    again = examiner._process
    with pytest.raises(BadGrammar, match="too much"):
        await examiner.examine(ENDLESS)
    assert examiner._process is again, "known by now"


async def test_a_child_that_died_is_replaced(examiner: Examiner):
    await examiner.examine(FINE)
    assert examiner._process is not None
    examiner._process.kill()
    await examiner._process.wait()
    with pytest.raises(BadGrammar, match="too much"):
        await examiner.examine(json_grammar({"type": "boolean"}))
    await examiner.examine(json_grammar({"type": "null"}))


async def test_without_a_tokenizer_grammars_are_refused(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    for path in (tmp_path / "none.json", tmp_path / "tokenizer.json"):
        async with Examiner(path, 4096, [0]) as examiner:
            with pytest.raises(BadGrammar, match="takes no grammars"):
                await examiner.examine(FINE)
            assert examiner._process is None


async def test_closing_ends_the_child():
    examiner = Examiner(SAMPLE, 4096, [0])
    await examiner.examine(FINE)
    process = examiner._process
    assert process is not None
    await examiner.close()
    await examiner.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
