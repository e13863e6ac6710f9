"""What Serving decides by itself; the life of a whole Peer is in test_serve."""

from __future__ import annotations

import importlib
import threading
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from dht.memory import MemoryDirectory, MemoryStore
from model.config import read_config
from peer.around import limits_for, warn_of_namesakes
from peer.config import PeerConfig
from peer.serving import Serving
from proto import frames
from proto.messages import Chunk, Entry, Hidden, Open, Rejected, Want, WireDType
from swarm.clock import VirtualClock
from swarm.errors import BadRequest
from swarm.span import Span
from tests.support import tiny
from tests.support.swarm import a_model, a_peer

SESSION = b"s" * 16


async def test_what_takes_seconds_to_import_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch):
    class Enough(Exception):
        pass

    def slow_import(name: str) -> None:
        assert name == "dht.node" and threading.current_thread() is not threading.main_thread()
        raise Enough

    monkeypatch.setattr(importlib, "import_module", slow_import)
    serving = Serving(PeerConfig(), VirtualClock())
    with pytest.raises(Enough):
        await serving._find(None, None, AsyncExitStack())  # type: ignore[arg-type]


async def test_another_model_of_the_same_name_is_warned_of():
    clock = VirtualClock()
    directory = MemoryDirectory(MemoryStore(clock))
    await directory.publish(a_peer(1, model=a_model(digit="b"), expires_at=clock.wall() + 40))
    with capture_logs() as said:
        await warn_of_namesakes(a_model(digit="a"), directory)
    assert [(line["log_level"], line["other"]) for line in said] == [("warning", "b" * 32)]


async def test_a_swarm_that_does_not_answer_is_logged_and_stops_nobody():
    directory = MemoryDirectory(MemoryStore(VirtualClock()))
    await directory.close()
    with capture_logs() as said:
        await warn_of_namesakes(a_model(), directory)
    assert [(line["log_level"], line["why"]) for line in said] == [("warning", "this directory is closed")]


def test_a_full_chunk_is_taken_and_a_frame_that_no_honest_client_sends_is_not():
    config = read_config(tiny.directory())
    limits = limits_for(config, 64)
    data = bytes(64 * config.hidden_size * 4)
    chunk = Chunk(0, 0, 64, Want.HIDDEN, hidden=Hidden(WireDType.F32, 64, config.hidden_size, data))
    full = frames.encode([Entry(SESSION, 0, chunk)]).SerializeToString()
    assert frames.decode(full, limits) == [Entry(SESSION, 0, chunk)]
    with pytest.raises(BadRequest, match="frame has"):
        frames.decode(full * 1000, limits)


@pytest.mark.parametrize("beyond", ["max_tokens", "history"])
def test_an_open_larger_than_the_model_is_refused_before_it_is_read(beyond: str):
    config = read_config(tiny.directory())
    most = config.max_positions
    opening = Open(
        "f" * 32, "c8", Span(0, 4), most + (beyond == "max_tokens"), 1, history=(1,) * (most + (beyond == "history"))
    )
    (item,) = frames.decode(frames.encode([Entry(SESSION, 0, opening)]).SerializeToString(), limits_for(config, 64))
    assert isinstance(item, Rejected) and beyond in str(item.fault)
