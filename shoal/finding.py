"""Finding: what one check of ``shoal doctor`` saw, and how a check is run so that it always ends in Findings.

A check is a function without arguments. It may hang (a dead mount, a resolver without a network), so it runs in a
thread of its own that nobody waits for longer than its deadline; and it may fail in a way that nobody thought of, which
is then a Finding too, for a doctor who breaks down helps nobody.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from shoal.plain import plain
from swarm.errors import ShoalError

State = Literal["ok", "warn", "fail", "skipped"]
STATES: tuple[State, ...] = ("ok", "warn", "fail", "skipped")


@dataclass(frozen=True, slots=True)
class Finding:
    """``warn``: it works, and could be better or could not be known. ``fail``: mend it before you go on."""

    check: str  # a word or two
    state: State
    found: str  # one line
    advice: str = ""  # what to do; empty where nothing is to be done

    def __post_init__(self) -> None:
        assert self.state in STATES, self.state
        assert self.advice or self.state in ("ok", "skipped"), f"{self.check}: a {self.state} without advice"


@dataclass(frozen=True, slots=True)
class Check:
    """``look`` gives one Finding or several, within ``timeout_s``."""

    name: str
    doing: str  # "reading memory", for whoever waits
    timeout_s: float
    look: Callable[[], Finding | Sequence[Finding]]


def examine(check: Check) -> tuple[Finding, ...]:
    """Runs ``check``. Never raises, and returns within its time."""
    answers: queue.SimpleQueue[tuple[Finding, ...]] = queue.SimpleQueue()

    def look() -> None:
        try:
            found = check.look()
        except ShoalError as error:
            found = Finding(check.name, "fail", plain(str(error)), "see docs/troubleshoot.md")
        except Exception as error:  # noqa: BLE001 - a check's own mistake must not end the others
            said = plain(f"the check itself failed: {error!r}")
            found = Finding(check.name, "warn", said, "please report this line")
        answers.put((found,) if isinstance(found, Finding) else tuple(found))

    threading.Thread(target=look, name=check.name, daemon=True).start()
    try:
        return answers.get(timeout=check.timeout_s)
    except queue.Empty:
        late = f"no answer within {check.timeout_s:g} s"
        return (Finding(check.name, "warn", late, "something hangs here: try again, or look what this machine does"),)


def mend(findings: Sequence[Finding]) -> bool:
    """Whether anything has to be mended."""
    return any(finding.state == "fail" for finding in findings)
