"""The swarm that one wants to join: does it let us in, what does it serve, who answers, what does it need most.

``survey`` goes there and brings back values; the judges below say what they mean. A peer's clock is read from what it
says of itself: its Info is a claim that expires ``CLAIM_S`` after it was made, by its own clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from client.config import ClientConfig
from client.links import Links
from dashboard import joining
from dht.records import CLOCK_SKEW_S
from peer.serving import CLAIM_S
from proto.messages import PROTOCOL
from shoal.checks_network import dial, is_loopback
from shoal.finding import Finding
from shoal.plain import plain
from swarm.address import Address, JoinAddress
from swarm.clock import SystemClock
from swarm.errors import ShoalError
from swarm.peerinfo import PeerInfo, PeerState
from swarm.placement import choose_span
from swarm.span import Span, uncovered
from swarm.version import software_version
from swarm.view import SwarmView

ASK_S = 3.0  # one peer, one question
AT_ONCE = 16
MAX_MODELS, MAX_PEERS = 16, 64  # looked at; a stranger's swarm may claim any number
SLOW_RTT_S = 0.25
HELP_BLOCKS = 8  # of the Span that is suggested, where nothing is missing


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of asking one peer."""

    peer: PeerInfo  # by its record
    trouble: str = ""  # why it did not answer
    rtt_s: float = 0.0
    skew_s: float | None = None  # its clock less ours
    protocol: str = ""  # why no Link came up


@dataclass(frozen=True, slots=True)
class Survey:
    """``trouble``: why nothing more could be learnt."""

    doors: tuple[tuple[str, str | None], ...] = ()  # join address, why it is shut
    trouble: str = ""
    joined_s: float = 0.0
    called_back: bool = False  # a peer of the swarm reached this machine's DHT port
    callback: str = ""  # why it could not
    views: tuple[SwarmView, ...] = ()
    answers: tuple[Answer, ...] = ()


async def survey(join: Sequence[str], dht_listen: Address | None = None, announce: Address | None = None) -> Survey:
    """Goes and looks. With ``dht_listen`` it joins as a peer would, which has the swarm call back. Never raises for
    what the swarm does."""
    read = [JoinAddress.parse(text) for text in join]
    shut = await asyncio.gather(*(dial(Address(door.host, door.port)) for door in read))
    found = Survey(tuple((door.text, why) for door, why in zip(read, shut, strict=True)))
    from dht.node import HivemindDirectory  # slow

    begun, called_back, callback, directory = time.monotonic(), False, "", None
    if dht_listen is not None:
        public = None if announce is None or not dht_listen.port else str(Address(announce.host, dht_listen.port))
        try:
            directory = await HivemindDirectory.create(listen=str(dht_listen), announce=public, join=join)
            called_back = True
        except ShoalError as error:  # a port that is taken has a Finding of its own
            callback = str(error) if "cannot reach this machine back" in str(error) else ""
    if directory is None:
        begun = time.monotonic()
        try:
            directory = await HivemindDirectory.create(client_mode=True, join=join)
        except ShoalError as error:
            return replace(found, trouble=str(error))
    joined_s = time.monotonic() - begun
    found = replace(found, joined_s=joined_s, called_back=called_back, callback=callback)
    links = Links(ClientConfig(dial_timeout_s=ASK_S, probe_timeout_s=ASK_S), SystemClock())
    try:
        models = (await directory.models())[:MAX_MODELS]
        distinct = {(model.fingerprint, model.num_blocks): model for model in models}
        views = await asyncio.gather(*(directory.view(model) for model in distinct.values()))
        turns = asyncio.Semaphore(AT_ONCE)
        peers = [peer for view in views for peer in view.peers][:MAX_PEERS]
        answers = await asyncio.gather(*(_ask(links, peer, turns) for peer in peers))
        return replace(found, views=tuple(view for view in views if view.peers), answers=tuple(answers))
    except ShoalError as error:
        return replace(found, trouble=str(error))
    finally:
        await links.close()
        await directory.close()


async def _ask(links: Links, peer: PeerInfo, turns: asyncio.Semaphore) -> Answer:
    async with turns:
        try:
            await links.info(peer, ASK_S)  # pays for the connection
            sent, begun = time.time(), time.monotonic()
            info = await links.info(peer, ASK_S)
            rtt_s = time.monotonic() - begun
        except ShoalError as error:
            return Answer(peer, trouble=str(error))
        skew_s = info.peer.expires_at - CLAIM_S - (sent + rtt_s / 2)
        try:
            await links.get(peer)
        except ShoalError as error:
            return Answer(info.peer, rtt_s=rtt_s, skew_s=skew_s, protocol=str(error))
        return Answer(info.peer, rtt_s=rtt_s, skew_s=skew_s)


def judge(found: Survey, join: Sequence[str], listen: Address | None) -> list[Finding]:
    """All of it. ``listen``: where a peer here would listen, if one is meant to."""
    findings = [*judge_doors(found.doors)]
    if found.trouble:
        nobody = bool(found.doors) and all(why is not None for _, why in found.doors)
        return findings if nobody else [*findings, judge_trouble(found.trouble)]
    findings.append(Finding("swarm", "ok", f"joined in {found.joined_s:.1f} s"))
    if found.callback:
        advice = "open the DHT port (--dht-listen HOST:PORT) in firewall and router, and announce the right host"
        findings.append(Finding("DHT from outside", "fail", plain(found.callback), advice))
    elif found.called_back:
        findings.append(Finding("DHT from outside", "ok", "a peer of the swarm called back and came through"))
    if not found.views:
        advice = f"be the first: shoal serve --join {join[0]}"
        return [*findings, Finding("models", "warn", "nobody in this swarm serves a model now", advice)]
    findings += [judge_coverage(view, join) for view in found.views]
    findings += [judge_answer(answer) for answer in found.answers]
    findings += judge_clocks(found.answers)
    if (
        listen is not None
        and is_loopback(listen.host)
        and not all(is_loopback(JoinAddress.parse(j).host) for j in join)
    ):
        advice = "listen on a real address: --listen 0.0.0.0:31330 --announce my.host:31330"
        findings.append(Finding("listen address", "warn", f"{listen} is of no use to peers elsewhere", advice))
    return findings


def judge_doors(doors: Sequence[tuple[str, str | None]]) -> list[Finding]:
    findings: list[Finding] = []
    for text, why in doors:
        if why is None:
            findings.append(Finding("join address", "ok", f"{text}: somebody listens"))
            continue
        others = any(other is None for _, other in doors)
        advice = (
            "leave it out, or ask its owner"
            if others
            else 'ask for a fresh one: what a running peer prints under "join"'
        )
        findings.append(Finding("join address", "warn" if others else "fail", f"{text}: {plain(why)}", advice))
    return findings


def judge_trouble(trouble: str) -> Finding:
    said = plain(trouble)
    if "clocks differ" in trouble:
        return Finding("swarm", "fail", said, "set the clock: timedatectl set-ntp true (check with: date -u)")
    advice = "is all of the address right, what follows /p2p/ too? Without --identity it changes with every start"
    return Finding("swarm", "fail", said, advice)


def judge_coverage(view: SwarmView, join: Sequence[str]) -> Finding:
    """Which Blocks are served, and where one more peer would help most."""
    name = f"{plain(view.model.name, 60)} ({view.model.fingerprint[:8]})"
    profile = "c8" if view.usable("c8") or not view.usable() else view.usable()[0].profile
    ready = view.usable(profile)
    counts = [sum(block in peer.span for peer in ready) for block in view.span]
    gaps, single = _ranges(counts, 0), _ranges(counts, 1)
    span = choose_span(view, HELP_BLOCKS, profile)
    command = joining.command(view.model.name, span, profile, join[:1])
    said = f"{name}: {view.model.num_blocks} blocks, {len(ready)} of {len(view.peers)} peers ready"
    if gaps:
        loading = sum(peer.state is PeerState.JOINING for peer in view.peers)
        soon = f" ({loading} more still loading)" if loading else ""
        advice = f"nobody can use the model until a peer serves them: {command}"
        return Finding("coverage", "fail", f"{said}{soon}; nobody serves {_list(gaps)}", advice)
    if single:
        advice = f"one more peer would make it safe: {command}"
        return Finding("coverage", "warn", f"{said}; one peer alone serves {_list(single)}", advice)
    said = f"{said}; every block at least {min(counts)} times; one more helps most at {span}"
    return Finding("coverage", "ok", f"{said}: {command}")


def judge_answer(answer: Answer) -> Finding:
    peer = answer.peer
    name = f"{plain(peer.name, 40)} " if peer.name else ""
    who = f"{name}{peer} at {peer.address}, {peer.state.name.lower()}, version {plain(peer.version, 40)}"
    if answer.trouble:
        advice = "a firewall on the way, or the peer has died: then its record ends within a minute"
        return Finding("peer", "warn", f"{peer}: {plain(answer.trouble)}", advice)
    said = f"{who}, {answer.rtt_s * 1e3:.1f} ms"
    if answer.protocol:
        advice = f"this is {software_version()} with protocol {PROTOCOL}; whoever is older should upgrade"
        return Finding("peer", "warn", f"{said}; no link: {plain(answer.protocol)}", advice)
    if answer.rtt_s > SLOW_RTT_S:
        return Finding("peer", "warn", said, "far away or busy: routes avoid it where they can")
    return Finding("peer", "ok", said)


def judge_clocks(answers: Sequence[Answer]) -> list[Finding]:
    """Compares this clock with those of the peers. Nobody's is right by itself: the middle one is asked."""
    known = sorted((a.skew_s, str(a.peer)) for a in answers if a.skew_s is not None)
    if not known:
        return []
    middle = known[len(known) // 2][0]
    worst, who = max(known, key=lambda one: abs(one[0]))
    said = f"{abs(middle):.2f} s {'behind' if middle > 0 else 'before'} the peers' (the middle of {len(known)})"
    if abs(middle) > CLOCK_SKEW_S / 2:
        state = "fail" if abs(middle) > CLOCK_SKEW_S else "warn"
        return [
            Finding(
                "clock and peers",
                state,
                f"this clock is {said}; at most {CLOCK_SKEW_S:g} s are borne",
                "set the clock: timedatectl set-ntp true",
            )
        ]
    if abs(worst - middle) > CLOCK_SKEW_S / 2:
        advice = "its owner should set it; nothing is to be done here"
        return [Finding("clock and peers", "warn", f"this clock agrees; {who} is off by {worst:+.1f} s", advice)]
    return [Finding("clock and peers", "ok", f"this clock is {said}")]


def _ranges(counts: Sequence[int], wanted: int) -> list[Span]:
    """Where exactly so many peers serve."""
    others = [Span(block, block + 1) for block, count in enumerate(counts) if count != wanted]
    return list(uncovered(Span(0, len(counts)), others))


def _list(spans: Sequence[Span], most: int = 6) -> str:
    more = f" and {len(spans) - most} more ranges" if len(spans) > most else ""
    return f"blocks {', '.join(map(str, spans[:most]))}{more}"
