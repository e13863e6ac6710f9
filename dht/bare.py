"""Imports a package without running its ``__init__``, for packages whose ``__init__`` imports what we have no use for.

hivemind's brings its training half: optimisers, averaging, scipy, pydantic; half a second and 45 MB in every process,
for a DHT that needs none of it.
"""

from __future__ import annotations

import importlib.util
import sys


def import_bare(package: str) -> None:
    """Makes ``package`` importable from, module by module, as an empty module; one that is there already stays.

    Whoever imports the package afterwards, in this process, finds it without the names that its ``__init__`` defines.
    """
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is not None:  # else the import that comes next says so better
        sys.modules[package] = importlib.util.module_from_spec(spec)
