"""Examiner: whether a stranger's grammar can be compiled at a price that one may pay, found out where it harms nobody.

Most grammars compile in a millisecond. A few short ones take minutes, all memory, or more stack than there is, and
nothing that can be read off them says which. So they are tried in a child process first, which the system ends when it
takes more than its share; what passes there is compiled here. The child starts with the first grammar, and ends with
this process, whose end of the pipe it hears.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.grammar import apart, check, compiled, read_tokenizer
from swarm.errors import BadGrammar, Refused, ShoalError
from swarm.sampling import Grammar, GrammarKind
from swarm.text import one_line

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from llguidance import LLTokenizer

ROOT = Path(__file__).resolve().parent.parent
CPU_S = 1  # of the processor for one grammar; up to 2, for the system counts whole seconds
STEPS, STEPS_S = 16, 0.5  # so many first tokens together may take so long
MEMORY_BYTES = 4 << 30  # of address space, stack and tokenizer included
ANSWER_S = 6.0  # on a machine that is busy
START_S = 60.0  # a large vocabulary takes a second of processor time
REMEMBERED = 256  # verdicts
RETRY_AFTER_S = 2.0
TOO_MUCH = "grammar: it takes too much time or memory to compile; make it smaller"


class Examiner:
    """``tokenizer``: the file. One grammar at a time; ``close`` it, or ``async with``."""

    def __init__(self, tokenizer: Path, vocab_size: int, end_token_ids: Sequence[int]):
        self._arguments = (str(tokenizer), str(vocab_size), ",".join(map(str, end_token_ids)))
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._verdicts: OrderedDict[Grammar, str] = OrderedDict()  # "": it passes

    async def __aenter__(self) -> Examiner:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def examine(self, grammar: Grammar) -> None:
        """Returns where it may be compiled. Raises BadGrammar with the reason, Refused where nothing is found out."""
        async with self._turn:
            verdict = self._verdicts.pop(grammar, None)
            if verdict is None:
                verdict = await self._ask(grammar)
            if verdict is None:
                raise BadGrammar(TOO_MUCH)  # or the machine has too much to do: it is not written down
            self._verdicts[grammar] = verdict
            if len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)
        if verdict:
            raise BadGrammar(verdict)

    async def close(self) -> None:
        """End the child. Twice is once."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, grammar: Grammar) -> str | None:
        """The verdict; None where none came in time."""
        process = self._process or await self._start()
        assert process.stdin is not None and process.stdout is not None
        question = json.dumps({"kind": int(grammar.kind), "text": grammar.text})
        try:
            process.stdin.write(question.encode() + b"\n")
            async with asyncio.timeout(ANSWER_S):
                line = await process.stdout.readline()
        except TimeoutError:
            await self.close()
            return None
        except OSError:
            line = b""
        except BaseException:
            await self.close()  # its answer would be taken for the next one's
            raise
        if not line:
            await self.close()
            return TOO_MUCH
        return str(json.loads(line)["said"])

    async def _start(self) -> Process:
        command = (sys.executable, "-m", "model.examiner", *self._arguments)
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL,
            cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        line = b""
        try:
            async with asyncio.timeout(START_S):
                line = await process.stdout.readline()
        except TimeoutError:
            pass
        finally:
            if not line:
                await self.close()
        if not line:
            raise Refused("this peer takes no grammars now: the examiner did not start")
        said = str(json.loads(line)["said"])
        if said:
            await self.close()
            raise BadGrammar(f"this peer takes no grammars: {one_line(said)}")
        return process


def main(arguments: Sequence[str]) -> None:
    """The child: a verdict for every line, until nobody listens."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with contextlib.suppress(OSError):
        os.nice(5)
    try:
        path, vocab_size, ends = arguments
        end_token_ids = [int(each) for each in ends.split(",") if each]
        tokenizer = read_tokenizer(Path(path).read_text(encoding="utf-8"), int(vocab_size), end_token_ids)
    except (OSError, ValueError, ShoalError) as error:
        print(json.dumps({"said": str(error)}), flush=True)
        return
    print(json.dumps({"said": ""}), flush=True)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    for line in sys.stdin.buffer:
        question: dict[str, Any] = json.loads(line)
        grammar = Grammar(GrammarKind(question["kind"]), question["text"])
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + CPU_S, hard))
        said = ""
        try:
            apart(walk, grammar, tokenizer).result()
        except BadGrammar as fault:
            said = str(fault)
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        print(json.dumps({"said": said}), flush=True)


def walk(grammar: Grammar, tokenizer: LLTokenizer) -> None:
    """Compile it and take a few steps: the first masks are the dear ones. Raises BadGrammar."""
    matcher = compiled(grammar, tokenizer)
    begin = time.process_time()
    for _ in range(STEPS):
        bits = matcher.compute_logit_bias()
        check(matcher)
        if time.process_time() - begin > STEPS_S:
            raise BadGrammar("grammar: its tokens take too long to find; make it smaller")
        allowed = [token_id for token_id, bit in enumerate(bits) if bit]
        if not allowed:
            raise BadGrammar("grammar: no token of this model fits it")
        if matcher.is_stopped():
            return
        matcher.consume_token(allowed[len(allowed) // 2])


if __name__ == "__main__":
    main(sys.argv[1:])
