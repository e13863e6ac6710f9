"""What a grammar allows: a function of grammar and answer alone, whatever was asked before; answers that fit."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from model.constraint import Constraints
from model.grammar import json_grammar, read_tokenizer
from model.sampler import draw, draw_along
from swarm.errors import BadGrammar, CorruptCheckpoint, UsageError
from swarm.sampling import MAX_GRAMMAR_BYTES, Grammar, GrammarKind, SamplingParams
from tests.client.words import END, tokenizer

SCHEMA = {
    "type": "object", "required": ["a", "b"], "additionalProperties": False,
    "properties": {"a": {"enum": ["x", "yy"]}, "b": {"type": "integer", "minimum": 0, "maximum": 99}},
}  # fmt: skip
OBJECT = json_grammar(SCHEMA)
VOCAB = 1010  # ten more than the tokenizer knows


@cache
def words() -> Tokenizer:
    return tokenizer()


@cache
def reader():
    return read_tokenizer(words().to_str(), VOCAB, [END])


def ids(text: str) -> list[int]:
    return words().encode(text).ids


@pytest.fixture
def constraints() -> Constraints:
    return Constraints(reader, VOCAB)


def allowed(constraints: Constraints, answer: list[int], stream: object = 1, grammar: Grammar = OBJECT) -> set[int]:
    return set(constraints.mask(stream, grammar, answer).nonzero().squeeze(1).tolist())  # type: ignore[arg-type]


def test_what_may_come_next_follows_from_the_answer(constraints: Constraints):
    beginning = allowed(constraints, [])
    assert ids("{")[0] in beginning and END not in beginning and not beginning & set(ids("a[1"))
    assert allowed(constraints, ids('{"a": "x", "b": 7}')) == {END}
    assert allowed(constraints, [*ids('{"a": "x", "b": 7}'), END]) == {END}, "an ignored end is followed by others"
    assert allowed(constraints, [*ids('{"a": "x", "b": 7}'), END, END, END]) == {END}


def test_a_mask_does_not_depend_on_what_was_asked_before(constraints: Constraints):
    """Roll-backs, repairs and forks: every order of questions gives the same answers as a fresh start."""
    text = ids('{"a": "yy", "b": 42}')
    fresh = [allowed(Constraints(reader, VOCAB), text[:length]) for length in range(len(text) + 1)]
    order = [*range(len(text) + 1), 3, len(text), 0, 5, 4, 9, 2]
    assert [allowed(constraints, text[:length]) for length in order] == [fresh[length] for length in order]
    other = ids('{"a": "x"')
    assert allowed(constraints, other) == allowed(Constraints(reader, VOCAB), other), "the same length, another text"


def test_streams_and_grammars_do_not_mix(constraints: Constraints):
    numbers = json_grammar({"type": "integer"})
    assert allowed(constraints, ids('{"a"'), 1) != allowed(constraints, ids("4"), 2, numbers)
    assert END in allowed(constraints, ids("42"), 2, numbers)
    assert END in allowed(constraints, ids("42"), 1, numbers), "the stream has another grammar now"


def test_few_states_are_kept_and_the_others_made_anew():
    small, text = Constraints(reader, VOCAB, max_streams=2), ids('{"a": "yy", "b": 42}')
    for length in range(len(text)):
        for stream in range(3):
            assert allowed(small, text[:length], stream) == allowed(Constraints(reader, VOCAB), text[:length])
    assert len(small._states) == 2


def test_an_answer_that_does_not_fit_is_somebodys_mistake(constraints: Constraints):
    with pytest.raises(BadGrammar, match="grammar: "):
        allowed(constraints, ids("[1"))
    assert allowed(constraints, ids("{")) == allowed(Constraints(reader, VOCAB), ids("{")), "and leaves nothing behind"


@pytest.mark.parametrize(
    ("grammar", "complaint"),
    [
        (json_grammar({"type": "objekt"}), "Invalid type: objekt"),
        (json_grammar({"not": {}}), "Unimplemented keys"),
        (json_grammar({"$ref": "http://example.com/x"}), "not present"),
        (json_grammar({"type": "string", "pattern": "("}), "regex parse error"),
        (Grammar(GrammarKind.JSON_SCHEMA, "{"), "grammar: "),
        (Grammar(GrammarKind.JSON_SCHEMA, '{"items":' * 5000 + "{}" + "}" * 5000), "recursion limit"),
        (Grammar(GrammarKind.LARK, "nonsense"), "grammar: "),
        (Grammar(GrammarKind.LARK, "start: " + "(" * 9000 + '"a"' + ")" * 9000), "deeply nested"),
    ],
)
def test_what_cannot_be_understood_is_told_in_one_line(constraints: Constraints, grammar: Grammar, complaint: str):
    with pytest.raises(BadGrammar, match=complaint) as fault:
        constraints.mask(1, grammar, [])
    assert "\n" not in str(fault.value) and len(str(fault.value)) < 300


def test_a_chain_of_rules_that_needs_a_deep_stack_ends_nothing(constraints: Constraints):
    rules = "".join(f"r{n}: r{n + 1}\n" for n in range(4000))
    assert allowed(constraints, [], 1, Grammar(GrammarKind.LARK, f'start: r0\n{rules}r4000: "x"')) == set(ids("x"))


def test_grammars_have_a_size():
    with pytest.raises(UsageError, match=f"1..{MAX_GRAMMAR_BYTES}"):
        Grammar(GrammarKind.LARK, "ü" * (MAX_GRAMMAR_BYTES // 2 + 1))
    with pytest.raises(UsageError):
        Grammar(GrammarKind.LARK, "")
    with pytest.raises(BadGrammar, match="no JSON"):
        json_grammar({"a": {1}})


def test_a_tokenizer_that_cannot_be_used_says_so():
    with pytest.raises(CorruptCheckpoint, match="cannot be used"):
        read_tokenizer("{}", 10, [1])
    with pytest.raises(CorruptCheckpoint, match="end token"):
        read_tokenizer(words().to_str(), VOCAB, [])


def test_more_tokens_than_the_model_has_are_left_out():
    narrow = Constraints(lambda: read_tokenizer(words().to_str(), 200, [5]), 200)
    assert len(narrow.mask(1, OBJECT, [])) == 200


SAMPLE = Path(__file__).resolve().parent.parent.parent / "model" / "sample" / "tokenizer.json"


@cache
def sample() -> Constraints:
    return Constraints(lambda: read_tokenizer(SAMPLE.read_text(), 4096, [0]), 4096, max_streams=4)


SCALARS: Any = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "number"}, {"const": "ünï\n"}]),
    st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
              st.integers(-200, 200), st.integers(0, 300)),
    st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
              st.integers(0, 3), st.integers(0, 6)),
    st.lists(st.text(max_size=5) | st.integers(-9, 9), min_size=1, max_size=4, unique_by=json.dumps)
    .map(lambda values: {"enum": values}),
    st.just({"type": "string", "pattern": "^[a-f]{2,4}-[0-9]+$"}),
)  # fmt: skip


def composed(inner: Any) -> Any:
    names = st.sampled_from(["a", "b", "längе", "x y", '"'])
    return st.one_of(
        st.builds(lambda items, most: {"type": "array", "items": items, "minItems": min(1, most), "maxItems": most},
                  inner, st.integers(0, 3)),
        st.builds(lambda first, second: {"anyOf": [first, second]}, inner, inner),
        st.dictionaries(names, inner, max_size=3).flatmap(
            lambda properties: st.sets(st.sampled_from(sorted(properties) or ["a"])).map(
                lambda required: {
                    "type": "object", "properties": properties, "additionalProperties": False,
                    "required": sorted(required & set(properties)),
                }
            )
        ),
    )  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    schema=st.recursive(SCALARS, composed, max_leaves=5), seed=st.integers(0, 2**32), drafts=st.integers(0, 3),
    greedy=st.booleans(),
)  # fmt: skip
def test_an_answer_that_ended_fits_its_schema(schema: dict[str, Any], seed: int, drafts: int, greedy: bool):
    """Whatever the logits, and whatever guesses are checked on the way."""
    chance = torch.Generator().manual_seed(seed)
    params = SamplingParams(temperature=0.0 if greedy else 1.5, seed=seed, grammar=json_grammar(schema))
    prompt, answer = (7, 8, 9), list[int]()
    masks = sample().masks(seed)
    while len(answer) < 120 and (not answer or answer[-1] != 0):
        logits = torch.randn((drafts + 1, 4096), generator=chance) * 2
        logits[:, 0] += 3
        guesses = [int(torch.randint(4096, (), generator=chance)) for _ in range(drafts)]
        if drafts:  # the first one is right
            guesses[0] = draw(logits[0], params, 3 + len(answer), (*prompt, *answer), 3, masks=masks).token_id
        drawn = draw_along(logits, params, 3 + len(answer), (*prompt, *answer), 3, guesses, masks=masks)
        assert len(drawn) > min(1, drafts) or 0 in (drawn[-1].token_id, *answer)
        for each in drawn:
            answer.append(each.token_id)
            if each.token_id == 0:
                break
    if answer[-1] == 0:
        text = Tokenizer.from_file(str(SAMPLE)).decode(answer)
        jsonschema.validate(json.loads(text), schema)
