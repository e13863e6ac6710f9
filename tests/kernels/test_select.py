from __future__ import annotations

import pytest

import kernels
from kernels import reference
from swarm.errors import UsageError


def test_the_reference_is_chosen_and_offers_what_it_promises(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SHOAL_ISA", raising=False)
    assert kernels.select() is reference
    assert all(callable(getattr(kernels.select(), name)) for name in reference.__all__)


def test_the_environment_names_an_implementation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOAL_ISA", "reference")
    assert kernels.select() is reference
    monkeypatch.setenv("SHOAL_ISA", "avx1024")
    with pytest.raises(UsageError, match="avx1024"):
        kernels.select()
