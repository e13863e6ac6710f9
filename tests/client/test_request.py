from __future__ import annotations

import pytest

from client.request import Request, check_sendable
from proto.messages import WireDType
from swarm.errors import UsageError
from swarm.route import Hop
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support.hash_engine import HIDDEN, MODEL, VOCAB, hash_peer

FIRST, LAST = (Hop(hash_peer(n, *cut), Span(*cut)) for n, cut in enumerate(((0, 3), (3, 6)), 1))
SEEDED = SamplingParams(temperature=1.0, seed=3)
PENALISED = SamplingParams(repetition_penalty=1.5)


def request(sampling: SamplingParams = SEEDED, **changes: object) -> Request:
    given: dict[str, object] = {"stop_token_ids": (7, 9), "timing": True, **changes}
    return Request(MODEL, "c8", (1, 2, 3), 5, sampling, HIDDEN, VOCAB, **given)  # type: ignore[arg-type]


def test_every_hop_is_asked_for_room_for_prompt_and_answer():
    for hop, draws in ((FIRST, False), (LAST, True)):
        opening = request().opening(hop, 2, WireDType.BF16, (1, 2, 3), draws, 0)
        assert (opening.fingerprint, opening.profile, opening.span) == (MODEL.fingerprint, "c8", hop.span)
        assert (opening.max_tokens, opening.prompt_tokens, opening.num_hops) == (8, 3, 2)
        assert (opening.wire, opening.timing) == (WireDType.BF16, True)


def test_only_who_draws_hears_how_and_where_to_stop():
    silent, drawing = (request().opening(LAST, 2, WireDType.F32, (1, 2, 3), draws, 0) for draws in (False, True))
    assert (silent.sampling, silent.stop_token_ids, silent.draft_tokens) == (None, (), 0)
    assert (drawing.sampling, drawing.stop_token_ids) == (SEEDED, (7, 9))


@pytest.mark.parametrize(
    ("sampling", "draws", "drafts", "told"),
    [
        (SEEDED, True, 0, False),
        (SEEDED, True, 4, True),
        (PENALISED, True, 0, True),
        (PENALISED, False, 4, False),
    ],
)
def test_tokens_are_told_only_to_who_needs_them(sampling: SamplingParams, draws: bool, drafts: int, told: bool):
    opening = request(sampling).opening(LAST, 2, WireDType.F32, [1, 2, 3, 4], draws, drafts)
    assert opening.history == ((1, 2, 3, 4) if told else ())


def test_what_fits_no_message_is_the_callers_mistake():
    check_sendable(request())
    for changes in ({"stop_token_ids": (-1,)}, {"stop_token_ids": ("x",)}):
        with pytest.raises(UsageError, match="fits no message"):
            check_sendable(request(**changes))
