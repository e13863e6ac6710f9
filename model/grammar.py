"""Grammars: from a text that a stranger wrote to something that says which tokens may come next. llguidance does the
work; here are its limits, its errors as ours, and the thread that it needs.

It compiles without holding the interpreter, but by recursion: a chain of a few thousand rules takes more stack than a
thread usually has, and what lacks stack ends the process. So compiling happens on a thread of its own, made for that
(``apart``). How long it may take is ``model.examiner``'s affair.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from swarm.errors import BadGrammar, CorruptCheckpoint
from swarm.sampling import Grammar, GrammarKind
from swarm.text import one_line

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

P = ParamSpec("P")
T = TypeVar("T")

STACK_BYTES = 256 << 20  # of address space; 64 KiB of text use a fifth of it at most
SAID = 240  # letters of the compiler's reason

# One space, or a line break and an indentation: as models and people write JSON. A model that may write white space
# for ever sometimes does.
WHITE_SPACE = r"\n[ \t]{0,24}| "

_LIMITS = {
    "max_items_in_row": 2000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,  # some 15 ms
    "step_max_items": 50_000,  # some 3 ms
    "max_lexer_states": 10_000,  # one or two kB each, for every answer that is being written
    "max_grammar_size": 500_000,
    "verbose_errors": False,  # they would repeat what somebody wrote
}
_stack = threading.Lock()


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run ``function`` on a new thread with a deep stack."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # nobody can call it off

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 — a panic of Rust's is no Exception, and whoever waits is to hear
            future.set_exception(error)

    with _stack:  # the size is the process's, for threads that are made from now on
        before = threading.stack_size(STACK_BYTES)
        try:
            threading.Thread(target=run, name="grammar", daemon=True).start()
        finally:
            threading.stack_size(before)
    return future


def read_tokenizer(data: str, vocab_size: int, end_token_ids: Sequence[int]) -> LLTokenizer:
    """``data``: a tokenizer.json. Holds the interpreter, for up to a second where the vocabulary is large. Raises
    CorruptCheckpoint.
    """
    from llguidance import LLTokenizer

    if not end_token_ids:
        raise CorruptCheckpoint("the model names no end token, so nothing could end an answer")
    ends = [token_id for token_id in end_token_ids if token_id < vocab_size]
    try:
        try:
            return LLTokenizer(data, n_vocab=vocab_size, eos_token=ends)
        except ValueError:  # more tokens than the model has: what is too many is left out of masks
            return LLTokenizer(data, eos_token=ends)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 — as above
        raise CorruptCheckpoint(f"the tokenizer cannot be used for grammars: {one_line(str(error), SAID)}") from None


def compiled(grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
    """At its beginning. To be called by ``apart``. Raises BadGrammar.

    Every answer needs one of its own: copies share what they learn of their lexer, and the limits of that.
    """
    from llguidance import LLMatcher, LLParserLimits

    try:
        matcher = LLMatcher(tokenizer, _source(grammar), log_level=0, limits=LLParserLimits(**_LIMITS))
    except ValueError as error:
        raise BadGrammar(f"grammar: {one_line(str(error), SAID)}") from None
    check(matcher)
    return matcher


def check(matcher: LLMatcher) -> None:
    """Raises BadGrammar with what went wrong in ``matcher``, which is then of no more use."""
    if matcher.is_error():
        raise BadGrammar(f"grammar: {one_line(matcher.get_error().replace('<non-verbose/>', ''), SAID)}")


def json_grammar(schema: object) -> Grammar:
    """What fits a JSON Schema. Raises UsageError where it is too long, BadGrammar where it is no JSON."""
    try:
        return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema, ensure_ascii=False, separators=(",", ":")))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadGrammar(f"grammar: the schema is no JSON: {one_line(str(error), SAID)}") from None


def _source(grammar: Grammar) -> str:
    from llguidance import LLMatcher

    if grammar.kind is GrammarKind.LARK:
        return LLMatcher.grammar_from_lark(grammar.text)
    return LLMatcher.grammar_from_json_schema(grammar.text, overrides={"whitespace_pattern": WHITE_SPACE})
