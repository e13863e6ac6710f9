"""The picture and the file of ``generate --trace``."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from client.config import PathShape
from client.trace import HopTrace, StepTrace, Trace
from client.waterfall import check, events, save, show
from swarm.errors import UsageError
from swarm.span import Span

FIRST, SECOND = ("1b3f0a52" * 4, Span(0, 12)), ("9c24d7e8" * 4, Span(12, 24))


def step(number: int, total_s: float, *times: tuple[float, float], tokens: int = 1) -> StepTrace:
    hops = (HopTrace(*key, *each) for key, each in zip((FIRST, SECOND), times, strict=False))
    return StepTrace(number, tokens, total_s, tuple(hops))


SMALL = Trace(
    (
        step(0, 0.9, (0.01, 0.3), (0.02, 0.4)),
        step(1, 0.04, (0.004, 0.01), (0.0001, 0.0139)),
        step(2, 0.05, (0.004, 0.01), (0.0, 0.014), tokens=3),
        step(3, 0.03, (0.0, 0.01), (0.0, 0.014)),
    ),
    "chain",
)
PICTURE = """\
step 1, the median of 3: 40.0 ms for 1 token
                0                                  40.0 ms network queue compute
1b3f0a52[0:12]  ╌╌╌╌░░░░███████████                            4.0   4.0    10.0
9c24d7e8[12:24]                    ╌╌╌╌███████████████╌╌╌╌     8.0   0.1    13.9
sum                                                           12.0   4.1    23.9
░░ queue  ██ compute  ╌╌ network and client, in milliseconds
chain of 2 hops: only the sum of the network is known, drawn as 3 equal trips
"""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def shown(trace: Trace) -> str:
    file = io.StringIO()
    show(trace, file)
    return file.getvalue()


def test_a_small_picture_is_this_one():
    assert shown(SMALL) == PICTURE


@pytest.mark.parametrize("shape", ["star", "chain", "ring"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_a_picture_fits_80_columns(shape: PathShape, scale: float):
    hops = [HopTrace("f" * 64, Span(4000 + i, 4001 + i), 0.003 * scale, 0.02 * scale) for i in range(12)]
    for line in shown(Trace((StepTrace(7, 1, 0.5 * scale, tuple(hops)),), shape)).splitlines():
        assert len(line) <= 80, line


def test_a_terminal_that_is_narrow_gets_a_narrow_picture(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "50")
    for line in shown(SMALL).splitlines()[1:5]:
        assert len(line) <= 50, line


def test_a_terminal_without_such_letters_gets_plain_ones():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    show(SMALL, file)
    assert b"----::::###########" in raw.getvalue()
    show(Trace((step(0, 0.9, (0.01, 0.001)),), "ring"), file)
    assert b"---|  " in raw.getvalue()


def test_what_is_too_short_for_a_cell_is_a_sliver_and_computing_hides_queueing():
    lines = shown(Trace((step(0, 0.9, (1e-5, 0.0), (1e-5, 1e-5)),), "star")).splitlines()
    assert [line.count("▏") for line in lines] == [0, 0, 1, 1, 0, 0, 0, 0]
    assert "█" not in "".join(lines[:4])


def test_a_terminal_sees_the_same_letters_with_and_without_colours(monkeypatch: pytest.MonkeyPatch):
    from rich.text import Text

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    coloured = shown(SMALL)
    assert "\x1b[32m" in coloured
    assert Text.from_ansi(coloured).plain.rstrip() == PICTURE.rstrip()


@pytest.mark.parametrize("shape", ["star", "chain", "ring"])
def test_computing_is_seen_however_short_it_is(shape: PathShape):
    for tenths in range(1, 400):
        _, _, first, second, *_ = shown(Trace((step(0, 0.9, (0.0, tenths * 1e-4), (0.0, 2e-6)),), shape)).splitlines()
        assert set(first) & {"▏", "█"} and "▏" in second, tenths


def test_hops_that_report_more_than_the_client_saw_are_drawn_and_said():
    picture = shown(Trace((step(0, 0.01, (0.0, 0.01), (0.0, 0.02)),), "ring"))
    assert "step 0, the prompt's: 10.0 ms" in picture and "the hops report the last one only" in picture
    assert "30.0 ms network" in picture and "the hops report 30.0 ms, more than the client saw" in picture


def test_hops_that_did_not_say_are_named_as_the_reason():
    assert shown(Trace((StepTrace(0, 1, 0.1, ()),), "ring")) == "no trace: the hops did not say where their time went\n"


def test_a_step_that_took_no_time_is_no_mistake():
    trace = Trace((step(0, 0.0, (0.0, 0.0)),), "ring")
    assert "0.0 ms" in shown(trace) and events(trace)


def test_the_picture_goes_to_stderr(capsys: pytest.CaptureFixture[str]):
    show(SMALL)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("step 1")


def timed(trace: Trace) -> list[dict[str, Any]]:
    return [event for event in events(trace) if event["ph"] == "X"]


def test_the_file_is_a_trace_of_whole_microseconds_with_named_processes_and_threads(tmp_path: Path):
    save(tmp_path / "trace.json", SMALL)
    document = json.loads((tmp_path / "trace.json").read_text())
    assert document["displayTimeUnit"] == "ms" and document["otherData"]["shape"] == "chain"
    names: dict[int, str] = {}
    threads: set[tuple[int, int]] = set()
    for event in document["traceEvents"]:
        assert event["ph"] in "XM" and isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["name"] == "process_name":
            names[event["pid"]] = event["args"]["name"]
        elif event["name"] == "thread_name":
            threads.add((event["pid"], event["tid"]))
        elif event["ph"] == "X":
            assert type(event["ts"]) is int and type(event["dur"]) is int and min(event["ts"], event["dur"]) >= 0
            assert (event["pid"], event["tid"]) in threads, "named before it is used"
    assert names == {1: "client", 2: "1b3f0a52[0:12]", 3: "9c24d7e8[12:24]"}


@pytest.mark.parametrize("shape", ["star", "chain", "ring"])
def test_events_of_a_thread_nest(shape: PathShape):
    threads: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in timed(Trace(SMALL.steps, shape)):
        threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert len(threads) == 4, "the client's steps and network, and a thread for each hop"
    for spans in threads.values():
        open_ends: list[int] = []
        for start, end in spans:  # in the order of the file: outer before inner
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1], (start, end, open_ends)
            open_ends.append(end)


@pytest.mark.parametrize("shape", ["star", "chain", "ring"])
def test_the_parts_of_a_step_add_up_to_it_exactly(shape: PathShape):
    trace = Trace((*SMALL.steps, step(4, 1 / 3, (1 / 7, 1 / 97), (1 / 49, 1 / 51))), shape)
    parts: dict[int, int] = defaultdict(int)
    steps = [event for event in timed(trace) if event["cat"] == "step"]
    for event in timed(trace):
        if event["cat"] in ("network", "queue", "compute"):
            inside = [s["ts"] <= event["ts"] and event["ts"] + event["dur"] <= s["ts"] + s["dur"] for s in steps]
            parts[inside.index(True)] += event["dur"]
    assert [parts[index] for index in range(len(steps))] == [event["dur"] for event in steps]
    assert sum(event["dur"] for event in steps) == round(sum(s.total_s for s in trace.steps) * 1e6)


def test_a_hops_part_of_a_step_holds_its_queueing_and_its_computing():
    inside = [event for event in timed(SMALL) if event["pid"] == 3][:3]
    assert [event["name"] for event in inside] == ["step 0", "queue", "compute"]
    outer, queue, compute = ((event["ts"], event["ts"] + event["dur"]) for event in inside)
    assert outer == (queue[0], compute[1]) and queue[1] == compute[0]
    assert (queue[1] - queue[0], compute[1] - compute[0]) == (20_000, 400_000)


def test_a_step_tells_its_tokens_and_where_its_time_went():
    args = [event["args"] for event in timed(SMALL) if event["cat"] == "step"]
    assert args[2] == {"tokens": 3, "total_ms": 50.0, "busy_ms": 28.0, "network_ms": 22.0}


def test_a_peer_that_came_in_a_fail_over_has_a_process_of_its_own():
    other = StepTrace(4, 1, 0.05, (HopTrace("0" * 32, Span(0, 12), 0.0, 0.01), SMALL.steps[3].hops[1]))
    compute = [event["pid"] for event in timed(Trace((SMALL.steps[3], other), "ring")) if event["cat"] == "compute"]
    assert compute == [2, 3, 4, 3]


def test_a_step_that_nobody_accounts_for_keeps_its_time():
    trace = Trace((SMALL.steps[3], StepTrace(4, 1, 0.5, ()), SMALL.steps[2]), "ring")
    steps = [(event["ts"], event["dur"]) for event in timed(trace) if event["cat"] == "step"]
    assert steps == [(0, 30_000), (30_000, 500_000), (530_000, 50_000)]


def test_a_file_that_cannot_be_written_is_found_before_anything_is_generated(tmp_path: Path):
    with pytest.raises(UsageError, match=r"the trace cannot be written to .*/missing/x.json: No such file"):
        check(tmp_path / "missing" / "x.json")
    with pytest.raises(UsageError, match="the trace cannot be written to /dev/full: No space left"):
        save(Path("/dev/full"), SMALL)
    kept = tmp_path / "kept.json"
    kept.write_text("old")
    check(kept)
    assert kept.read_text() == "old", "looking does no harm"
