"""The arithmetic of profile c8: one set of signatures, one definition (``reference``), implementations that equal it
bit by bit.

``select()`` chooses the implementation once, at start. What all of them offer is what ``reference.__all__`` names.
"""

from __future__ import annotations

import os
from types import ModuleType

from swarm.errors import UsageError

IMPLEMENTATIONS = ("reference",)


def select(name: str | None = None) -> ModuleType:
    """The implementation called ``name``, or by the environment's SHOAL_ISA, or the fastest that this machine can run.

    Raises UsageError for a name that does not exist.
    """
    name = name or os.environ.get("SHOAL_ISA") or IMPLEMENTATIONS[0]
    if name not in IMPLEMENTATIONS:
        raise UsageError(
            f"no implementation of the arithmetic is called {name!r}; SHOAL_ISA can be: {', '.join(IMPLEMENTATIONS)}"
        )
    from kernels import reference

    return reference
