"""What strangers put in names, made fit for a terminal: no escape codes, no marks that turn writing round, no length.

A peer chooses its own name, and whoever runs a gateway chooses all of what it answers. ``swarm.text.one_line`` takes
care of control characters; a terminal also obeys marks that nobody sees: those for writing from right to left reorder
what follows them, zero-width ones make two names look the same.
"""

from __future__ import annotations

import unicodedata

from swarm.text import one_line

MAX_MARKS = 2  # accents on one letter; more of them climb over the lines above


def plain(text: object, max_letters: int = 300) -> str:
    """``text`` on one line, as what can be seen of it. "" for what is no text."""
    if not isinstance(text, str):
        return ""
    kept: list[str] = []
    marks = 0
    for letter in text[: 4 * max_letters]:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        harmless = letter.isprintable() or unicodedata.category(letter) in ("Cc", "Zs", "Zl", "Zp")  # spaces by and by
        if harmless and marks <= MAX_MARKS:
            kept.append(letter)
    return one_line("".join(kept), max_letters)
