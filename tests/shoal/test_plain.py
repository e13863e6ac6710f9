"""What a stranger writes cannot command a terminal, turn its writing round, or fill it."""

from __future__ import annotations

import pytest

from shoal.plain import plain


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("kitchen", "kitchen"),
        ("Küche 厨房 ☕", "Küche 厨房 ☕"),
        ("\x1b[2J\x1b]0;mine\x07", "[2J ]0;mine"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("\u2066a\u2069\u200b\u200f\ufeffb", "ab"),
        ("one\r\ntwo\u2028three\tfour", "one two three four"),
        ("e" + "\u0301" * 40, "e\u0301\u0301"),
        ("[bold red]x[/]", "[bold red]x[/]"),
        ("", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_only_what_can_be_seen_is_left(text: object, seen: str):
    assert plain(text) == seen


def test_it_has_a_length():
    assert plain("a" * 1_000_000, 10) == "a" * 9 + "…"
    assert plain("\u0301" * 1_000_000, 10) == "\u0301\u0301"
