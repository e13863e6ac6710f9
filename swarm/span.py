"""Span: a half-open range of Blocks. Knows arithmetic on ranges, and how a user writes one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from swarm.errors import UsageError


@dataclass(frozen=True, order=True, slots=True)
class Span:
    """Blocks ``start`` up to but not including ``end``; never empty."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise UsageError(f"span {self.start}:{self.end} is empty or negative; write start:end with start < end")

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.end))

    def __contains__(self, block: int) -> bool:
        return self.start <= block < self.end

    def __str__(self) -> str:
        return f"{self.start}:{self.end}"

    def covers(self, other: Span) -> bool:
        return self.start <= other.start and other.end <= self.end

    @classmethod
    def parse(cls, text: str) -> Span:
        """``"0:20"`` → Span(0, 20). Raises UsageError on anything else."""
        found = re.fullmatch(r"(\d{1,6}):(\d{1,6})", text.strip())
        if not found:
            raise UsageError(f"cannot read span {text!r}; write start:end, for example 0:20")
        return cls(int(found[1]), int(found[2]))


def uncovered(total: Span, spans: Iterable[Span]) -> tuple[Span, ...]:
    """The parts of ``total`` that no one of ``spans`` touches, in ascending order."""
    gaps: list[Span] = []
    reached = total.start
    for span in sorted(spans):
        if span.start > reached and reached < total.end:
            gaps.append(Span(reached, min(span.start, total.end)))
        reached = max(reached, span.end)
    if reached < total.end:
        gaps.append(Span(reached, total.end))
    return tuple(gaps)
