"""Writer: tokens in, Pieces and the Result out. Knows when a generation is over; knows nothing of peers."""

from __future__ import annotations

from collections.abc import Sequence

from client.result import FinishReason, Piece, Result, TokenLogprob, legs
from client.sampling import Wish
from client.text import Codec, Detokeniser, StopFinder
from proto.messages import Token
from swarm.route import Route


class Writer:
    """``begun`` and the ``now`` of every token are monotonic seconds."""

    def __init__(self, codec: Codec, prompt: Sequence[int], wish: Wish, max_new_tokens: int, begun: float):
        self.finish_reason: FinishReason | None = None
        self._wish, self._max_new_tokens, self._begun = wish, max_new_tokens, begun
        self._prompt_tokens = len(prompt)
        self._text = Detokeniser(codec, prompt)
        self._finder = StopFinder(wish.stops)
        self._shown: list[str] = []
        self._tokens: list[Token] = []
        self._first = self._last = begun

    def write(self, token: Token, now: float, route: Route | None, failovers: int) -> Piece:
        """Take in the next token. Not after ``finish_reason`` is set."""
        assert self.finish_reason is None
        self._first, self._last = (self._first if self._tokens else now), now
        self._tokens.append(token)
        text = ""
        if token.token_id in self._wish.stop_token_ids:
            self.finish_reason = "stop"
        else:
            text = self._finder.push(self._text.push(token.token_id))
            if self._finder.stopped:
                self.finish_reason = "stop"
            elif len(self._tokens) == self._max_new_tokens:
                self.finish_reason = "length"
        if self.finish_reason is not None and not self._finder.stopped:
            text += self._rest()
        self._shown.append(text)
        return Piece(text, (token.token_id,), self._logprobs([token]), legs(route), failovers)

    def result(self, route: Route | None, failovers: int) -> Result:
        """What came of it; nothing can be written afterwards.

        Before the end that is a generation that broke off: ``finish_reason`` is "error", and what was held back is
        text.
        """
        if self.finish_reason is None:
            self.finish_reason = "error"
            self._shown.append(self._rest())
        count, ttft_s = len(self._tokens), self._first - self._begun
        spent = (self._last - self._first) if count > 1 else ttft_s
        return Result(
            text="".join(self._shown),
            token_ids=tuple(token.token_id for token in self._tokens),
            logprobs=self._logprobs(self._tokens),
            finish_reason=self.finish_reason,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=count,
            ttft_s=ttft_s,
            tokens_per_s=max(count - 1, 1) / spent if spent > 0 else 0.0,
            route=legs(route),
            failovers=failovers,
            seed=self._wish.seed,
            accepted_tokens=count - len({token.step for token in self._tokens}),
        )

    def _rest(self) -> str:
        """What detokeniser and stop finder still held; a stop string in it counts."""
        text = self._finder.push(self._text.finish())
        return text + self._finder.finish()

    def _logprobs(self, tokens: Sequence[Token]) -> tuple[TokenLogprob, ...] | None:
        return None if self._wish.sampling.logprobs is None else tuple(TokenLogprob.of(token) for token in tokens)
