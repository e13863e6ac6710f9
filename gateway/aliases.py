"""Alias: a name for several models with weights, so that a new one can be tried on a few requests. Pure.

Which model a request gets depends on its id alone: the same id always gets the same model, on every gateway, and
raising a weight moves only as many requests as it must (each target owns a stretch of the hash's range, in order).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.errors import UsageError

MAX_TARGETS = 32
MAX_WEIGHT = 1_000_000


@dataclass(frozen=True, slots=True)
class Alias:
    """``targets``: (model, weight); the weights need not add up to anything."""

    name: str
    targets: tuple[tuple[str, int], ...]

    @classmethod
    def parse(cls, text: str) -> Alias:
        """``chat=modelA:90,modelB:10``; a weight may be left out where there is one target. Raises UsageError."""
        name, equals, rest = text.partition("=")
        if not equals or not name.strip() or not rest.strip():
            raise UsageError(f"alias {text[:80]!r} is not NAME=MODEL:WEIGHT,…, for example chat=model-a:90,model-b:10")
        targets: list[tuple[str, int]] = []
        parts = [part.strip() for part in rest.split(",")]
        for part in parts:
            model, colon, weight = part.rpartition(":")
            if not colon and len(parts) == 1:
                model, weight = part, "1"
            if not model or not weight.isascii() or not weight.isdigit() or not int(weight) <= MAX_WEIGHT:
                raise UsageError(f"alias {name!r}: {part[:80]!r} is not MODEL:WEIGHT, with a weight of 0..{MAX_WEIGHT}")
            targets.append((model, int(weight)))
        if len(targets) > MAX_TARGETS or not any(weight for _, weight in targets):
            raise UsageError(f"alias {name!r} needs 1..{MAX_TARGETS} models, and one with a weight above 0")
        return cls(name.strip(), tuple(targets))

    def choose(self, request_id: str) -> str:
        """The model for this request."""
        total = sum(weight for _, weight in self.targets)
        digest = hashlib.sha256(f"{self.name}\0{request_id}".encode(errors="replace")).digest()
        place = int.from_bytes(digest[:8], "big") * total >> 64
        for model, weight in self.targets:
            if place < weight:
                return model
            place -= weight
        raise AssertionError("the weights cover the whole range")


def read_aliases(texts: Sequence[str]) -> dict[str, Alias]:
    """By name. Raises UsageError; also for a name given twice, and for an alias of an alias."""
    aliases: dict[str, Alias] = {}
    for text in texts:
        alias = Alias.parse(text)
        if alias.name in aliases:
            raise UsageError(f"alias {alias.name!r} is given twice")
        aliases[alias.name] = alias
    for alias in aliases.values():
        for model, _ in alias.targets:
            if model in aliases:
                raise UsageError(f"alias {alias.name!r} leads to {model!r}, which is an alias itself")
    return aliases
