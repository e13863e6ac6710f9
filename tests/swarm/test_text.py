from __future__ import annotations

import pytest

from swarm.text import one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("  two\n\tlines \r\n", "two lines"),
        ("\x1b[2Jwiped\x07", "[2Jwiped"),
        ("a\u2028b\x85c\u00a0d", "a b c d"),
        ("", ""),
        ("123456789", "123456789"),
        ("1234567890!", "123456789…"),
    ],
)
def test_text_from_outside_becomes_one_harmless_line(text: str, line: str):
    assert one_line(text, 10) == line
