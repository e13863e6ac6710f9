"""Guessing the next tokens, and knowing when to leave it. Pure: no clock, no chance, no model.

A step that checks k guesses costs a little more than one that checks none, and gives up to k tokens more. A guess is
never trusted: the last Hop draws at every position as it would have without it, so guesses change speed and nothing
else (tests/model/test_speculation.py). Two questions are answered here:

- **What comes next?** ``PromptLookup``: text repeats itself. What followed the last few tokens when they came before
  is a good guess, and costs nothing.
- **How many guesses are worth it?** ``Pace``. It keeps a purse, so that a loss has a bound that holds for any text.

``Drafter`` is both together. Client and Peer use the same one: in the ring it is the last Hop that drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

LOOKED_AT = 64  # places where the last two tokens came before …
LONGEST = 16  # … and how far back they are compared; more of either found no more

EXTRA_ROW_COST = 0.15  # of a step, until it was measured; rather too much than too little
LEAST_COST = 0.005
ALLOWANCE = 0.025  # of every step may be lost to guesses that fail
FULL_PURSE = 2.0  # steps: what an end of repetition may cost at most
PATIENCE = 3  # failures in a row without consequence
DOUBLINGS = 6  # the longest silence is 63 steps
MEMORY = 0.9  # how much of what is known of acceptance and cost is kept over an outcome


class Source(Protocol):
    """Where guesses come from: a history of tokens that grows, and sometimes is taken back."""

    def append(self, token_ids: Sequence[int]) -> None: ...

    def rollback(self, length: int) -> None: ...

    def propose(self, count: int) -> tuple[int, ...]: ...


class PromptLookup:
    """Guesses what followed where the last two tokens came before: of the LOOKED_AT latest such places, at the one
    where most of what stands before agrees too; of equals, at the latest.

    For every position it is written down where the pair of tokens that ends there ended before: a chain from place to
    place. A token costs the same at the end of a long text as at its beginning (and about 200 bytes), a question is a
    walk of bounded length, and taking tokens back is undoing the notes one by one.
    """

    def __init__(self, history: Sequence[int] = ()):
        self._tokens: list[int] = []
        self._latest: dict[tuple[int, int], int] = {}  # a pair → the position of its last token
        self._before: list[int | None] = []  # by position: the one before
        self.append(history)

    def __len__(self) -> int:
        return len(self._tokens)

    def append(self, token_ids: Sequence[int]) -> None:
        for token_id in token_ids:
            self._tokens.append(token_id)
            if len(self._tokens) == 1:
                self._before.append(None)
                continue
            pair = self._tokens[-2], token_id
            self._before.append(self._latest.get(pair))
            self._latest[pair] = len(self._tokens) - 1

    def rollback(self, length: int) -> None:
        """Forget what lies behind the first ``length`` tokens; O(tokens forgotten)."""
        assert 0 <= length <= len(self._tokens), f"cannot go back to {length} of {len(self._tokens)} tokens"
        while len(self._tokens) > length:
            before, token_id = self._before.pop(), self._tokens.pop()
            if before is not None:
                self._latest[self._tokens[-1], token_id] = before
            elif self._tokens:
                del self._latest[self._tokens[-1], token_id]

    def propose(self, count: int) -> tuple[int, ...]:
        """Up to ``count`` guesses; none where nothing comes back. What followed may run into the end of the history:
        then the text turns in a circle, and so do the guesses.
        """
        match, most = None, 0
        place = self._before[-1] if self._before else None
        for _ in range(LOOKED_AT):
            if place is None or most == LONGEST:
                break
            agreeing = self._agreeing(place)
            if agreeing > most:
                match, most = place, agreeing
            place = self._before[place]
        if match is None:
            return ()
        followed = self._tokens[match + 1 : match + 1 + count]
        return tuple(followed[i % len(followed)] for i in range(count))

    def _agreeing(self, place: int) -> int:
        """How many tokens up to ``place`` are the last of all, in order; LONGEST at most."""
        tokens, end, count = self._tokens, len(self._tokens) - 1, 2
        while count < LONGEST and count <= place and tokens[place - count] == tokens[end - count]:
            count += 1
        return count


class Pace:
    """How many guesses the next step should check.

    **Worth.** If a guess is right with probability a where those before it were, then k of them give
    ``a + a² + … + a^k`` tokens more and cost ``c·k`` of a step. The k with the most tokens a second is asked for. a
    comes from recent outcomes, c from ``observe``. (Another probability for the first guess gained nothing on text.)

    **Purse.** Every step earns ALLOWANCE of a step, every guess is paid in advance, every accepted one brings back the
    step that it saved, and there is no credit. So whatever the text, drafting has cost at most ALLOWANCE of the time
    that plain decoding would have taken, as long as c is not more than believed:

        loss = Σ c·drafted - Σ accepted  ≤  ALLOWANCE · steps

    **Silence.** When the guesses of several steps in a row all failed there is a pause, twice as long each time, then
    a few guesses to see whether the text has changed. On hopeless text the loss is so far below its bound.
    """

    def __init__(self, max_tokens: int, cost: float = EXTRA_ROW_COST):
        assert max_tokens >= 0 and cost > 0, f"{max_tokens} tokens at {cost} of a step"
        self.max_tokens = max_tokens
        self.cost = cost  # of an extra row, in steps
        self._right, self._wrong = 1.0, 1.0  # guesses of late; an even chance to begin with
        self._purse = 0.0
        self._failures = 0  # in a row
        self._silence = 0  # steps still to pass
        self._plain_s: float | None = None

    def begin(self) -> None:
        """A step begins, drafts or not: it earns its allowance."""
        self._purse = min(FULL_PURSE, self._purse + ALLOWANCE)
        self._silence = max(0, self._silence - 1)

    @property
    def limit(self) -> int:
        """Guesses for the step that has begun."""
        if self._silence:
            return 0
        affordable = int(self._purse / self.cost + 1e-9)
        return min(self.max_tokens, affordable, max(1, self._best()))

    def accepted(self, drafted: int, accepted: int) -> None:
        """The outcome of a step with drafts."""
        assert 0 <= accepted <= drafted, f"{accepted} of {drafted} guesses accepted"
        if not drafted:
            return
        self._purse += accepted - self.cost * drafted
        self._right = MEMORY * self._right + accepted
        self._wrong = MEMORY * self._wrong + (accepted < drafted)
        self._failures = 0 if accepted else min(PATIENCE + DOUBLINGS, self._failures + 1)
        self._silence = 2 ** max(0, self._failures - PATIENCE)  # steps, of which the next begin is one

    def observe(self, rows: int, seconds: float) -> None:
        """What a step of so many rows took, guesses made and carried included."""
        if rows == 1:
            self._plain_s = seconds if self._plain_s is None else _blend(self._plain_s, seconds)
        elif self._plain_s:
            extra = (seconds / self._plain_s - 1) / (rows - 1)
            self.cost = _blend(self.cost, min(1.0, max(LEAST_COST, extra)))

    def _best(self) -> int:
        chance = self._right / (self._right + self._wrong)
        best, most, tokens, next_one = 0, 1.0, 1.0, 1.0
        for count in range(1, self.max_tokens + 1):
            next_one *= chance
            tokens += next_one
            rate = tokens / (1 + self.cost * count)
            if rate <= most:
                break  # there is one summit
            best, most = count, rate
        return best


class Drafter:
    """Guesses for one generation. A step is one ``propose``, then ``append`` with the tokens that were really drawn
    and, where there were guesses, ``accepted``; in either order. What a repair takes back, ``rollback`` takes back.
    """

    def __init__(self, history: Sequence[int], max_tokens: int, source: Source | None = None):
        """``source``: another one than PromptLookup; it is given ``history`` here."""
        self.pace = Pace(max_tokens)
        self._source = PromptLookup() if source is None else source
        self._source.append(history)

    def propose(self, most: int | None = None) -> tuple[int, ...]:
        """As many guesses as are worth it, ``most`` at most (what is left to draw, for one); often none. To be asked
        once a step.
        """
        self.pace.begin()
        count = self.pace.limit if most is None else min(self.pace.limit, most)
        return self._source.propose(count) if count > 0 else ()

    def accepted(self, drafted: int, accepted: int) -> None:
        self.pace.accepted(drafted, accepted)

    def observe(self, rows: int, seconds: float) -> None:
        self.pace.observe(rows, seconds)

    def append(self, token_ids: Sequence[int]) -> None:
        self._source.append(token_ids)

    def rollback(self, length: int) -> None:
        self._source.rollback(length)


def _blend(old: float, new: float) -> float:
    return MEMORY * old + (1 - MEMORY) * new
