"""Schemas that no package carries: compose's own, and those of other people's Kubernetes kinds.

$SHOAL_SCHEMAS names a directory with compose-spec.json (github.com/compose-spec/compose-spec, schema/) and with the
folders of github.com/datreeio/CRDs-catalog. They are not kept here; where the variable is not set, these checks skip.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "SHOAL_SCHEMAS"


def check(document: object, name: str) -> None:
    """Against the schema of that file name; skips where there is none."""
    import jsonschema

    where = os.environ.get(VARIABLE)
    if not where:
        pytest.skip(f"${VARIABLE} names no directory with {name} (deploy/README.md says where schemas come from)")
    schema: dict[str, Any] = json.loads((Path(where) / name).read_text())
    errors = jsonschema.Draft7Validator(schema).iter_errors(document)
    mistakes = [f"{error.json_path}: {error.message[:200]}" for error in errors]
    assert not mistakes, "\n".join(mistakes)
