"""For every test: threads that wait at a barrier sleep, because tests and peers share two cores; Triton is its
interpreter, unless TRITON_INTERPRET=0 asks for a GPU; and hypothesis draws the same examples in every run.
"""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# OpenMP reads it when torch is loaded, so this comes before any test module.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Triton reads it when it is loaded, which importing a model of transformers does too.
os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("the same in every run", derandomize=True)
settings.load_profile("the same in every run")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command's ``main`` that runs in this process says how it logs; the next test is not to inherit that."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Dashboards, and gateways that show one, keep their history here and not in the user's home."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before
