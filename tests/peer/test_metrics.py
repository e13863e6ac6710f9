from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from peer.metrics import Books, Metrics, Side
from swarm.errors import FaultCode

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
BOOKS = Books(
    sessions=3,
    client_links=2,
    peer_links=1,
    queue_tokens=40,
    pages_used=5,
    pages_cached=7,
    pages_free=100,
    pages_owed=60,
    journal_memory_bytes=4096,
    journal_disk_bytes=0,
)


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics("1.2.3")
    made.watch(lambda: BOOKS)
    return made


def families(metrics: Metrics) -> dict[str, Metric]:
    """Of this Peer, as a scraper reads them; without the moments of creation that the text format appends."""
    read = {family.name: family for family in parse_text(metrics.render()[0].decode())}
    return {name: read[name] for name in read if name.startswith("shoal_peer_") and not name.endswith("_created")}


def values(metrics: Metrics) -> dict[str, float]:
    """``name{value}`` → number, of everything that is not 0."""

    def pairs() -> Iterator[tuple[str, float]]:
        for family in families(metrics).values():
            for sample in family.samples:
                labels = ",".join(sample.labels.values())
                yield sample.name.removeprefix("shoal_peer_") + (f"{{{labels}}}" if labels else ""), sample.value

    return {name: value for name, value in pairs() if value and not name.startswith("build_info")}


def test_the_books_are_read_when_somebody_scrapes():
    metrics, books = Metrics("1.2.3"), BOOKS
    assert not values(metrics), "a peer that is loading has no gauges"
    metrics.watch(lambda: books)
    assert values(metrics) == {
        "sessions": 3,
        "links{client}": 2,
        "links{peer}": 1,
        "queue_tokens": 40,
        "pages{used}": 5,
        "pages{cached}": 7,
        "pages{free}": 100,
        "pages_owed": 60,
        "journal_bytes{memory}": 4096,
    }
    books = Books(0, 0, 0, 0, 0, 7, 105, 0, 0, 0)
    assert values(metrics) == {"pages{cached}": 7, "pages{free}": 105}


def test_a_batch_is_counted_by_seats_tokens_and_seconds():
    metrics = Metrics("1.2.3")
    metrics.observe_batch(3, 250, 2, (0.002, 0.02, 0.2), 0.03)
    metrics.observe_batch(1, 0, 1, (0.0,), 0.01)
    seen = values(metrics)
    assert (seen["tokens_computed_total{prefill}"], seen["tokens_computed_total{decode}"]) == (250, 3)
    assert (metrics.prefill_tokens, metrics.decode_tokens) == (250, 3)
    assert (seen["batch_seats_count"], seen["batch_seats_sum"], seen["batch_seats_bucket{2.0}"]) == (2, 4, 1)
    assert (seen["batch_tokens_sum"], seen["batch_tokens_bucket{1.0}"], seen["batch_tokens_bucket{256.0}"]) == (
        253,
        1,
        2,
    )
    assert (seen["step_queue_seconds_count"], seen["step_compute_seconds_count"]) == (4, 2)
    assert seen["step_queue_seconds_sum"] == pytest.approx(0.222)
    assert seen["step_compute_seconds_sum"] == pytest.approx(0.04)


def test_bytes_are_counted_by_direction_and_by_who_is_there():
    metrics = Metrics("1.2.3")
    metrics.sent(Side.CLIENT, 10)
    metrics.sent(Side.PEER, 200)
    metrics.sent(Side.PEER, 200)
    metrics.received(Side.CLIENT, 7)
    assert values(metrics) == {
        "sent_bytes_total{client}": 10,
        "sent_bytes_total{peer}": 400,
        "received_bytes_total{client}": 7,
    }


def test_refusals_fail_overs_prefixes_and_drafts_are_counted():
    metrics = Metrics("1.2.3")
    metrics.refused(FaultCode.REFUSED)
    metrics.refused(FaultCode.REFUSED)
    metrics.refused(FaultCode.DRAINING)
    metrics.served_failover()
    metrics.prefix(96, 4)
    metrics.drafted(5, 3)
    assert values(metrics) == {
        "refusals_total{refused}": 2,
        "refusals_total{draining}": 1,
        "failovers_total": 1,
        "prefix_tokens_total{hit}": 96,
        "prefix_tokens_total{miss}": 4,
        "drafts_proposed_total": 5,
        "drafts_accepted_total": 3,
    }


def test_every_series_is_there_from_the_start():
    metrics = Metrics("1.2.3")
    codes = {sample.labels["code"] for sample in families(metrics)["shoal_peer_refusals"].samples}
    assert codes == {code.name.lower() for code in FaultCode}
    before = sum(len(family.samples) for family in families(metrics).values())
    metrics.observe_batch(1, 1, 0, (0.1,), 0.1)
    metrics.sent(Side.PEER, 1)
    metrics.prefix(1, 1)
    assert sum(len(family.samples) for family in families(metrics).values()) == before


def test_what_runs_here_is_said(metrics: Metrics):
    (sample,) = families(metrics)["shoal_peer_build_info"].samples
    assert sample.labels["version"] == "1.2.3" and sample.labels["protocol"].isdigit()


def test_two_peers_in_one_process_do_not_mix():
    one, other = Metrics("1"), Metrics("2")
    one.served_failover()
    assert values(one) == {"failovers_total": 1} and values(other) == {}


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", False),
        ("application/openmetrics-text", True),
        ("text/plain; q=0.1, Application/OpenMetrics-Text; version=1.0.0", True),
        ("application/openmetrics-text; version=abc", True),
        ("application/openmetrics-text; version=9.9; escaping=x", True),
        ("text/plain; version=abc", False),
        (";;,=,", False),
    ],
)
def test_the_format_is_the_one_asked_for_and_nonsense_is_survived(metrics: Metrics, accept: str, is_open: bool):
    body, content_type = metrics.render(accept)
    if is_open:
        assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        names = {
            family.name for family in parse_openmetrics(body.decode())
        }  # raises on anything that is not OpenMetrics
    else:
        assert content_type == "text/plain; version=0.0.4; charset=utf-8"
        names = {family.name for family in parse_text(body.decode())}
    assert {"shoal_peer_sessions", "shoal_peer_step_queue_seconds"} <= names


def test_names_follow_prometheus_habits(metrics: Metrics):
    for name, family in families(metrics).items():
        assert re.fullmatch(r"shoal_peer_[a-z_]+", name) and family.documentation.endswith("."), name
        assert not re.search(r"_(ms|milliseconds|kib|mib|percent)$", name), "base units: seconds and bytes"
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name


def rows() -> dict[str, list[str]]:
    """The table of the page: name → kind, unit, labels, meaning, example."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    return {name.strip("`"): rest for name, *rest in cells}


def test_the_page_names_every_metric_with_its_kind_and_labels_and_no_other(metrics: Metrics):
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, (kind, _, labels, _, _) in rows().items()}
    there = {
        name + {"counter": "_total", "info": "_info"}.get(family.type, ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for name, family in ((family.name, family) for family in metrics.registry.collect())
        if not name.startswith("process_")
    }
    assert told == there


def test_the_page_gives_units_meanings_and_queries_of_series_that_are_there(metrics: Metrics):
    there = {name.removesuffix("_total"): family for name, family in families(metrics).items()}
    there |= {sample.name: family for family in there.values() for sample in family.samples}
    for name, (_, unit, _, meaning, example) in rows().items():
        assert unit and meaning, name
        for word in ("seconds", "bytes", "tokens", "seats", "pages", "sessions", "links", "drafts"):
            assert word not in name.split("_") or unit == word, f"{name} is said to be in {unit}"
        asked = re.findall(r"(shoal_peer_\w+)(?:\{(\w+)=\"(\w+)\"\})?", example)
        assert any(series.startswith(name) for series, _, _ in asked), f"{name} has no query of its own"
        for series, label, value in asked:
            assert series in there, series
            known = {sample.labels.get(label) for sample in there[series].samples}
            assert not label or value in known, f"{series} has no {label}={value}"
