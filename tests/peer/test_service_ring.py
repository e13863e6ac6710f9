"""Three Peers on real sockets: a ring, and its end when one of them goes."""

from __future__ import annotations

from contextlib import AsyncExitStack

from proto.messages import Path, Token, Trouble
from swarm.errors import DeadLink
from swarm.span import Span
from tests.support.echo import A, B, C, Talk
from tests.support.hosts import HopRunner, Host, hosting
from tests.support.seats import opening, terms, tokens

SPANS = (Span(0, 3), Span(3, 6), Span(6, 8))
IDS = tuple(f"{number:032x}" for number in range(3))


async def ring(stack: AsyncExitStack, max_tokens: int) -> tuple[list[Host], list[Talk]]:
    hosts = [
        await stack.enter_async_context(hosting(HopRunner(), terms(span=span), peer_id=peer_id))
        for span, peer_id in zip(SPANS, IDS, strict=True)
    ]
    talks = [Talk(await host.link(), session) for host, session in zip(hosts, (A, B, C), strict=True)]
    for talk, span in zip(talks, SPANS, strict=True):
        sampling = {} if span.end == 8 else {"sampling": None}
        talk.send(0, opening(span=span, max_tokens=max_tokens, **sampling))
        await talk.receive()
    first, middle, last = (host.seat(session) for host, session in zip(hosts, (A, B, C), strict=True))
    for talk, path in zip(talks, (Path(0, middle, 0), Path(0, last, 0), Path(0, None, 0, feed=first)), strict=True):
        talk.send(0, path)
    return hosts, talks


async def test_tokens_go_round_without_the_client():
    async with AsyncExitStack() as stack:
        hosts, talks = await ring(stack, 30)
        talks[0].send(0, tokens(0, 0, 4))
        assert [await talks[2].outcome() for _ in range(26)] == [
            Token(step, 4 + step, 4 + step) for step in range(26)
        ]  # fmt: skip
        assert [len(host.neighbours) for host in hosts] == [1, 1, 1]
        assert [host.desk.num_links for host in hosts] == [2, 2, 2]


async def test_when_a_hop_goes_the_one_before_says_so():
    async with AsyncExitStack() as stack:
        hosts, talks = await ring(stack, 100)
        talks[0].send(0, tokens(0, 0, 4))
        assert isinstance(await talks[2].outcome(), Token)
        await hosts[1].server.stop(0)
        trouble = await talks[0].outcome()
        assert isinstance(trouble, Trouble) and trouble.peer_id == IDS[1] and isinstance(trouble.fault, DeadLink)
        assert len(hosts[0].desk.seats) == len(hosts[2].desk.seats) == 1
