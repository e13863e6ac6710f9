"""The face of Shoal: ``from shoal import Client`` and the ``shoal`` command."""

from client import Client

__all__ = ["Client"]
