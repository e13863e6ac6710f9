from __future__ import annotations

from importlib import metadata

import pytest

from swarm.version import software_version


def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", {"shoal": "1.2.3"}.get)
    assert software_version() == "1.2.3"


def test_without_an_installation_it_says_so(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert software_version() == "from-source"
