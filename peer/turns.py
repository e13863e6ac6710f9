"""Turns: whose turn it is, by deficit round robin (Shreedhar and Varghese, 1995). Knows names and costs, nothing else.

Every client that waits stands in a ring. On its turn it is given a quantum and may be served until that is used up;
then the next one's turn comes. What it had beyond its quantum it owes, and waits out in later rounds. Ten Seats of one
client therefore get together what the one Seat of another gets.
"""

from __future__ import annotations

from collections.abc import Container


class Turns:
    """A credit is at most a quantum and a debt at most the largest cost; who waits for nothing keeps no credit."""

    def __init__(self, quantum: int):
        assert quantum > 0, quantum
        self._quantum = quantum
        self._credit: dict[str, int] = {}  # in the order of the ring

    def __len__(self) -> int:
        return len(self._credit)

    def join(self, client: str) -> None:
        """A client waits from now on; it comes last unless it is in the ring already."""
        self._credit.setdefault(client, self._quantum)

    def first(self, waiting: Container[str]) -> str:
        """Whose turn it is among those ``waiting``, of whom at least one must have joined."""
        assert any(client in waiting for client in self._credit), "nobody who waits has joined"
        while True:
            client, credit = next(iter(self._credit.items()))
            if credit > 0 and client in waiting:
                return client
            del self._credit[client]
            if credit <= 0:  # the next one's turn; this one comes again, be it only to pay what it owes
                self._credit[client] = credit + self._quantum

    def charge(self, client: str, cost: int) -> None:
        self._credit[client] -= cost
