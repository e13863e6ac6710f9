"""The pure parts of gateway, gateway_soak and conformance: sums, bars, and what guests make of an answer."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from benchmarks import conformance, gateway, gateway_soak
from benchmarks.__main__ import ONLY_BY_NAME
from benchmarks.kit.driving import Run
from benchmarks.kit.gateways import GatewayFailed, ask, visitor, wish
from benchmarks.kit.guests import Guests, Tally, Text, answer, request, told


def test_a_token_takes_the_mean_of_what_is_between_them():
    assert gateway.per_token_s(Run(0.0, [1.0, 1.5, 3.0])) == 1.0


def test_the_gateway_is_judged_against_the_client():
    plan, found = gateway.Plan(streams=4), {"one": {"overhead_ms": 1.9}, "many": {"of_client": 0.94}}
    assert [(bar.bar, bar.met) for bar in gateway.bars(plan, found)] == [(2.0, True), (0.95, False)]


CALM: dict[str, Any] = {
    "counts": {"finished": 3, "finished while leaving": gateway_soak.LEAVING},
    "left": {"running": 0.0, "waiting": 0.0, "seats": 0, "pages": 0},
    "memory_growth": 1.01,
    "handles": {"before": 20, "after": 22},
    "threads": {"before": 9, "after": 9},
    "exit_status": 0,
    "logged_errors": [],
}


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"counts": {**CALM["counts"], "stuck": 1}}, "stuck"),
        ({"counts": {**CALM["counts"], "wrong": 1}}, "wrong"),
        ({"counts": {}}, "texts finished"),
        ({"left": {**CALM["left"], "waiting": 1.0}}, "run or wait"),
        ({"left": {**CALM["left"], "pages": 2}}, "seats and pages"),
        ({"memory_growth": 1.2}, "memory"),
        ({"handles": {"before": 20, "after": 90}}, "handles"),
        ({"threads": {"before": 2, "after": 40}}, "threads"),
        ({"exit_status": 1}, "exit status"),
        ({"logged_errors": ["Traceback"]}, "log"),
    ],
)
def test_a_soak_is_met_only_where_nothing_is_left(wrong: dict[str, Any], what: str):
    assert all(bar.met for bar in gateway_soak.bars(CALM))
    assert any(what in bar.what for bar in gateway_soak.bars({**CALM, **wrong}) if not bar.met)


def test_what_is_long_or_needs_tools_runs_only_by_its_name():
    assert {"gateway_soak", "conformance"} <= set(ONLY_BY_NAME)


def test_a_streams_text_is_read_through_the_framing_of_chunks():
    events = [{"choices": [{"text": part}]} for part in ("a", "b\n")]
    raw = b"".join(b"%x\r\ndata: %s\n\n\r\n" % (9, json.dumps(event).encode()) for event in events)
    assert told(b"HTTP/1.1 200 OK\r\n\r\n" + raw + b'data: {"usage": {}}\n\ndata: [DONE]\n\n') == "ab\n"


async def read(raw: bytes) -> tuple[int, bytes]:
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    return await answer(reader)


async def test_an_answer_is_read_whole_or_not_at_all():
    assert await read(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}") == (503, b"{}")
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert await read(chunked) == (200, b"abcde")
    for cut in (10, len(chunked) - 12, len(chunked) - 5):
        with pytest.raises(ConnectionError, match="broke off"):
            await read(chunked[:cut])


async def serve(respond: Any) -> asyncio.Server:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        writer.write(respond(await reader.readexactly(length)))
        await writer.drain()
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", 0)


def stream_of(*texts: str) -> bytes:
    events = [{"choices": [{"text": text}]} for text in (*texts, "")]
    body = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body


async def test_the_tokens_of_a_stream_are_its_events_but_the_last():
    async with await serve(lambda _: stream_of("a", "", "b")) as server:
        host, port = server.sockets[0].getsockname()
        async with visitor(f"http://{host}:{port}") as http:
            assert len((await ask(http, [1, 2], 3)).times) == 3
            with pytest.raises(GatewayFailed, match="3 tokens came where 4"):
                await ask(http, [1, 2], 4)


async def test_a_guest_complains_of_another_text_and_of_nothing_else():
    for said, complaint in ((stream_of("a", "b"), False), (stream_of("a", "c"), True)):
        tally = Tally()
        async with await serve(lambda _, said=said: said) as server:
            await Guests(server.sockets[0].getsockname(), [Text([1], 2, "ab")], tally).reads(random.Random(1))
        assert bool(tally.complaints) == complaint
        assert tally.counts["finished"] == (not complaint)


def test_a_request_is_http_with_its_length():
    head, _, body = request(wish([1], 2)).partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head and json.loads(body)["prompt"] == [1]


def test_a_tool_is_satisfied_when_all_it_asked_for_came():
    metrics: dict[str, Any] = {
        name: {"successful": {"mean": 1.0, "median": 1.0}}
        for name in (
            "output_tokens_per_second", "output_token_count", "time_to_first_token_ms", "inter_token_latency_ms"
        )
    }  # fmt: skip
    totals = {"successful": 4, "errored": 0, "incomplete": 0}
    for asked, complete in ((4, True), (5, False)):
        told_ = {"asked": asked, "benchmark": {"metrics": {**metrics, "request_totals": totals}}}
        assert conformance.summary(told_)["complete"] is complete
    test = {"concurrency": 1, "pp_throughput": {"mean": 2.0}, "tg_throughput": {"mean": 3.0}, "e2e_ttft": None}
    assert conformance.summary({"tests": [test]})["rows"][0]["tokens_s"] == 3.0
    failed = {"tools": {"x": {"failed": "it ended with 1"}}}
    assert [bar.met for bar in conformance.bars(failed)] == [False]
