"""The Ends at the client: the same tokens as a peer's own, by way of the wire's bytes, and nothing else fetched."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from client.ends import Abandoned, LocalEnds, default_ends_dir
from kernels.types import SeatRows
from model.config import read_config
from model.fingerprint import fingerprint
from model.sampler import draw
from model.source import open_source
from model.span_model import SpanModel
from model.weights import span_tensors
from peer.config import default_cache
from proto.messages import Hidden, Token, WireDType
from proto.tensors import from_hidden, to_hidden
from swarm.errors import BadNumbers, BadRequest, ModelNotFound, UsageError
from swarm.peerinfo import ModelRef
from swarm.profile import Profile
from swarm.sampling import SamplingParams
from tests.support import tiny
from tests.support.checkpoints import make_variant
from tests.support.hub import Hub

ROOT = Path(__file__).resolve().parents[2]
PROMPT = (5, 17, 99, 3, 64, 8, 8, 31, 100, 42)
CHANCE = SamplingParams(temperature=0.9, seed=7, repetition_penalty=1.2, logprobs=2)
F32, BF16 = WireDType.F32, WireDType.BF16


async def tiny_ends(profile: str = "c8") -> LocalEnds:
    return await LocalEnds.open(str(tiny.directory()), None, tiny.ref(), profile)


def through_blocks(model: SpanModel, hidden: Hidden, position: int) -> Hidden:
    """What a Route makes of one Chunk, bytes in and bytes out."""
    seat = SeatRows((0, 1), position, hidden.rows)
    return to_hidden(model.run(model.span, from_hidden(hidden), [seat], [hidden.dtype is BF16]), hidden.dtype)


def of_a_peer(model: SpanModel, wire: WireDType, count: int) -> list[Token]:
    """What is drawn where the peer has both Ends."""
    known, tokens, position = list(PROMPT), list[Token](), 0
    for step in range(count):
        ids = known[position:]
        y = model.run(model.span, model.embed(ids), [SeatRows((0, 1), position, len(ids))], [wire is BF16])
        position = len(known)
        one = draw(model.logits(y[-1:])[0], CHANCE, position, known, len(PROMPT), model.top_k)
        tokens.append(Token(step, position, one.token_id, one.logprob, one.top))
        known.append(one.token_id)
    return tokens


@pytest.mark.parametrize("wire", [F32, BF16])
@pytest.mark.parametrize("profile", ["c8", "f32"])
async def test_a_session_draws_the_very_tokens_and_logprobs_of_a_peers_ends(profile: Profile, wire: WireDType):
    expected = of_a_peer(tiny.span_model(profile=profile), wire, 10)
    model, tokens, known, position = tiny.span_model(profile=profile), list[Token](), list(PROMPT), 0
    async with await tiny_ends(profile) as ends:
        for step in range(10):
            hidden = await ends.embed(known[position:], wire)
            assert (hidden.dtype, hidden.rows, hidden.cols) == (wire, len(known) - position, 64)
            out = through_blocks(model, hidden, position)
            position = len(known)
            (token,) = await ends.draw(out.slice(out.rows - 1, out.rows), step, position, CHANCE, known, len(PROMPT))
            tokens.append(token)
            known.append(token.token_id)
    assert tokens == expected
    assert len({token.token_id for token in expected}) > 2


async def test_guesses_are_held_against_what_is_drawn_and_cost_no_bit():
    expected = [token.token_id for token in of_a_peer(tiny.span_model(), F32, 4)]
    async with await tiny_ends() as ends:

        async def verified(drafts: Sequence[int]) -> list[tuple[int, int, int]]:
            out = through_blocks(tiny.span_model(), await ends.embed([*PROMPT, *drafts], F32), 0)
            rows = out.slice(len(PROMPT) - 1, out.rows)
            tokens = await ends.draw(rows, 3, len(PROMPT), CHANCE, PROMPT, len(PROMPT), drafts)
            return [(token.step, token.position, token.token_id) for token in tokens]

        numbered = [(3, 10 + index, token_id) for index, token_id in enumerate(expected)]
        assert await verified(expected[:3]) == numbered
        assert await verified([expected[0], expected[1] ^ 1, expected[2]]) == numbered[:2]


@pytest.mark.parametrize("variant", ["llama", "llama-tied"])
async def test_from_the_hub_not_one_blocks_tensor_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
):
    directory = make_variant(tmp_path / "model", variant, dtype=torch.bfloat16, max_shard_size="60KB")
    with Hub() as hub:
        hub.add("org/name", directory)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        source = open_source("org/name", None, tmp_path / "one")
        config = read_config(source.directory, source.name)
        ref = ModelRef("org/name", fingerprint(source, config), config.num_blocks)
        to_know_it, before = Counter(hub.ranges), hub.weight_bytes
        hub.ranges.clear()
        ends = await LocalEnds.open(None, None, ref, "c8", tmp_path / "two")  # by the name that the swarm gives it
        await ends.close()
        fetched = Counter(hub.ranges)
    assert not to_know_it - fetched, "the fingerprint and the tables of all files"
    entries = [source.tensors[name] for name in span_tensors(config, None)]
    for file, start, end in fetched - to_know_it:
        assert any(entry.file == file and entry.start <= start < end <= entry.end for entry in entries)
    assert hub.weight_bytes == 2 * before + sum(entry.nbytes for entry in entries)


async def test_what_a_peer_of_this_user_has_quantised_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_ends_dir() == default_cache()
    source, config = open_source(tiny.directory()), read_config(tiny.directory())
    SpanModel.load(source, config, tiny.ALL, "c8", 1, default_cache())
    known, read = source.bytes_read, list[str]()
    monkeypatch.setattr("model.weights._Loader._read", lambda loader, name: read.append(name))  # nothing may call it
    ends = await LocalEnds.open(str(tiny.directory()), None, tiny.ref(), "c8", default_ends_dir())
    assert (await ends.embed([1, 2], F32)).rows == 2 and not read and known == source.bytes_read
    await ends.close()


async def test_another_checkpoint_than_the_swarms_is_refused_with_both_names(tmp_path: Path):
    other = make_variant(tmp_path / "other", "llama", seed=5)
    with pytest.raises(
        UsageError, match=f"other is [0-9a-f]+, the swarm serves {tiny.ref().name}.*{tiny.ref().fingerprint}"
    ):
        await LocalEnds.open(str(other), None, tiny.ref(), "c8")
    with pytest.raises(ModelNotFound, match="no model"):
        await LocalEnds.open(str(tmp_path / "none"), None, tiny.ref(), "c8")


async def test_bad_rows_are_a_fault_of_the_hop_that_sent_them():
    async with await tiny_ends() as ends:
        nan = Hidden(F32, 1, 64, b"\x00\x00\xc0\x7f" * 64)
        with pytest.raises(BadNumbers):
            await ends.draw(nan, 0, 10, CHANCE, PROMPT, 10)
        short = Hidden(F32, 1, 63, bytes(4 * 63))
        with pytest.raises(BadRequest, match=r"\[1, 63\] came, expected \[1, 64\]"):
            await ends.draw(short, 0, 10, CHANCE, PROMPT, 10)
        assert (await ends.embed([3], F32)).rows == 1, "and nothing is the worse for it"


class Slow:
    """Ends that wait to be told before they answer, and know who asked."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        self.threads.add(threading.get_ident())
        self.asked.set()
        assert self.go.wait(10), "the event loop waits for us instead of going on"
        return torch.zeros(len(token_ids), 4)


async def test_the_event_loop_goes_on_and_one_thread_computes(monkeypatch: pytest.MonkeyPatch):
    slow = Slow()
    monkeypatch.setattr("model.ends_model.open_ends", lambda *_: slow)
    async with await LocalEnds.open("any", None, tiny.ref(), "c8") as ends:
        calls = [asyncio.create_task(ends.embed([1] * rows, F32)) for rows in (1, 2, 3)]
        assert await asyncio.to_thread(slow.asked.wait, 10)
        slow.go.set()
        assert [hidden.rows for hidden in await asyncio.gather(*calls)] == [1, 2, 3]
    assert len(slow.threads) == 1 and threading.get_ident() not in slow.threads


async def test_progress_is_heard_on_the_event_loop_and_ends_at_all():
    heard: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        asyncio.get_running_loop()
        heard.append((done, total))

    ends = await LocalEnds.open(str(tiny.directory()), None, tiny.ref(), "c8", progress=progress)
    await ends.close()
    assert heard[0][0] == 0 and heard[-1][0] == heard[-1][1] > 0 and heard == sorted(heard)


async def test_loading_that_nobody_waits_for_ends_at_the_next_piece(monkeypatch: pytest.MonkeyPatch):
    begun, ended, given_up = threading.Event(), threading.Event(), threading.Event()

    def endless(*given: Any) -> None:
        progress: Callable[[int, int], None] = given[5]
        try:
            while not given_up.is_set():
                progress(1, 2)
                begun.set()
        except Abandoned:
            ended.set()
            raise

    monkeypatch.setattr("model.ends_model.open_ends", endless)
    opening = asyncio.create_task(LocalEnds.open("any", None, tiny.ref(), "c8"))
    assert await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    stopped = await asyncio.to_thread(ended.wait, 10)
    given_up.set()
    assert stopped


def test_a_client_knows_of_local_ends_without_loading_torch():
    code = "import sys, client, client.ends; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
