"""Request: what a Session is to do, as plain values. Checked before a swarm is troubled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from proto.frames import encode
from proto.messages import SESSION_BYTES, Chunk, Entry, Hidden, Open, Token, Want, WireDType
from swarm.errors import UsageError
from swarm.peerinfo import ModelRef
from swarm.route import Hop
from swarm.sampling import SamplingParams
from swarm.span import Span


@dataclass(frozen=True, slots=True)
class Request:
    """``prompt`` is not empty."""

    model: ModelRef
    profile: str
    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingParams
    hidden_size: int
    vocab_size: int
    stop_token_ids: tuple[int, ...] = ()
    guided: bool = False  # the caller chooses tokens by what comes back (``Session.choose``)
    timing: bool = False  # tokens say where their time went

    def opening(
        self, hop: Hop, num_hops: int, wire: WireDType, token_ids: Sequence[int], draws: bool, drafts: int
    ) -> Open:
        """What ``hop`` of a Route is asked for. It ``draws`` the tokens, with up to ``drafts`` guesses, or does not;
        ``token_ids`` are those known so far.
        """
        tells = draws and (self.sampling.needs_history or drafts > 0)
        return Open(
            fingerprint=self.model.fingerprint,
            profile=self.profile,
            span=hop.span,
            max_tokens=self.kv_tokens,
            prompt_tokens=len(self.prompt),
            wire=wire,
            sampling=self.sampling if draws else None,
            history=tuple(token_ids) if tells else (),
            num_hops=num_hops,
            stop_token_ids=self.stop_token_ids if draws else (),
            draft_tokens=drafts,
            timing=self.timing,
        )

    @property
    def kv_tokens(self) -> int:
        return len(self.prompt) + self.max_new_tokens


class Ends(Protocol):
    """The part of ``client.ends.LocalEnds`` that is used."""

    async def embed(self, token_ids: Sequence[int], wire: WireDType) -> Hidden: ...

    async def draw(
        self, hidden: Hidden, step: int, position: int, params: SamplingParams, history: Sequence[int],
        prompt_tokens: int, drafts: Sequence[int] = (),
    ) -> tuple[Token, ...]: ...  # fmt: skip


def check_sendable(request: Request) -> None:
    """Raises UsageError for a Request that fits no message. What cannot be sent would break the Link, which other
    Sessions share, and look like the peer's fault.
    """
    opening = Open(
        request.model.fingerprint, request.profile, Span(0, request.model.num_blocks), request.kv_tokens,
        len(request.prompt), sampling=request.sampling, stop_token_ids=request.stop_token_ids,
    )  # fmt: skip
    chunk = Chunk(0, 0, len(request.prompt), Want.TOKEN, token_ids=request.prompt)
    try:
        encode([Entry(bytes(SESSION_BYTES), 0, body) for body in (opening, chunk)])
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"this request fits no message: {error}") from error
