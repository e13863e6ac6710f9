"""Text from outside, made fit for a log line, an error message or a terminal."""

from __future__ import annotations

import re

_UNSEEN = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\s]+")


def one_line(text: str, max_letters: int = 300) -> str:
    """``text`` on one line, without control characters (a stranger's escape codes), cut where it gets too long."""
    flat = _UNSEEN.sub(" ", text[: 4 * max_letters]).strip()
    return flat if len(flat) <= max_letters else flat[: max_letters - 1] + "…"
