"""What a caller gets: Pieces while it streams, and one Result at the end. Plain values, ready to be JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypedDict

from client.config import PathShape
from client.trace import Trace
from proto.messages import Token
from swarm.route import Route

FinishReason = Literal["stop", "length", "error"]


class Leg(TypedDict):
    """A Hop as people read it: ``blocks`` is [start, end)."""

    peer: str
    blocks: list[int]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural logarithms of probabilities before sampling; ``top`` has (token id, logprob), most likely first."""

    token_id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, token: Token) -> TokenLogprob:
        return cls(token.token_id, token.logprob, token.top)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token added. ``text`` is often empty: a letter may need several tokens, a stop string is held back.

    ``route`` and ``failovers`` are those of the moment.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    route: list[Leg]
    failovers: int

    @property
    def route_text(self) -> str:
        return route_text(self.route)


@dataclass(frozen=True, slots=True)
class Result:
    """One generation.

    ``text`` is the concatenation of the Pieces: what follows the prompt, without special tokens, cut before a stop
    string. ``token_ids`` are all tokens that were drawn, the one that ended it included; ``completion_tokens`` counts
    them. ``finish_reason`` is "stop" (an end token, a stop string or a stop id) or "length" (max_new_tokens); "error"
    only in what there is of a generation that broke off (``Stream.partial``). ``ttft_s`` runs from the call to the
    first token, waiting for a turn included; ``tokens_per_s`` counts from the first token on (for a single token: over
    ``ttft_s``). ``route`` is the last one, ``shape`` how its data went at the end. ``failovers`` counts Hops lost on
    the way. ``alternatives`` are further answers, where ``n`` were asked for; ``trace`` where the time went, where that
    was.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    tokens_per_s: float
    route: list[Leg]
    failovers: int
    seed: int
    cached_tokens: int = 0  # of the prompt, whose KV was found at every Hop
    accepted_tokens: int = 0  # that came along with another, because a guess was right
    shape: PathShape = "ring"
    alternatives: tuple[Result, ...] = ()
    trace: Trace | None = None

    @property
    def route_text(self) -> str:
        return route_text(self.route)

    def as_json(self) -> dict[str, Any]:
        """The fields that ``python -m client.generate --json`` prints."""
        fields = asdict(replace(self, alternatives=(), trace=None))
        for name in ("seed", "alternatives", "trace"):
            del fields[name]
        if self.alternatives:
            fields["alternatives"] = [each.as_json() for each in self.alternatives]
        return fields


def route_text(route: Sequence[Leg]) -> str:
    """For people: ``1b3f0a52[0:12] → 9c24d7e8[12:24]``."""
    return " → ".join(f"{leg['peer'][:8]}[{leg['blocks'][0]}:{leg['blocks'][1]}]" for leg in route)


def legs(route: Route | None) -> list[Leg]:
    hops = route.hops if route is not None else ()
    return [Leg(peer=hop.peer.peer_id, blocks=[hop.span.start, hop.span.end]) for hop in hops]
