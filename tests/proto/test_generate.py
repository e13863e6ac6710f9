from __future__ import annotations

from proto import generate


def test_the_generated_code_is_fresh():
    for name, text in generate.generate().items():
        assert (generate.HERE / name).read_text() == text, f"proto/{name} is stale; run python -m proto.generate"
