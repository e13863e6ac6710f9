"""Which version of Shoal this is, as the package says of itself."""

from __future__ import annotations

from importlib import metadata


def software_version() -> str:
    """ "from-source" where Shoal is run without having been installed."""
    try:
        return metadata.version("shoal")
    except metadata.PackageNotFoundError:
        return "from-source"
