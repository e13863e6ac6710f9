"""The table in docs/gateway.md is what is served, and labels are never a stranger's words."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"


def served(metrics: Metrics) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Of every family that is ours: its kind and its labels."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for family in text_string_to_metric_families(metrics.render("")[0].decode()):
        if family.name.startswith("shoal_gateway") and not family.name.endswith("_created"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            kind = "info" if family.name.endswith("_info") else family.type
            found[family.name + ("_total" if kind == "counter" else "")] = (kind, tuple(sorted(labels)))
    return found


def test_the_table_tells_what_is_served():
    metrics = Metrics("1", ["m"])
    metrics.response("/v1/models", 200)
    told = {
        name: (kind, tuple(sorted(re.findall(r"`(\w+)`", labels))))
        for name, kind, labels in re.findall(r"^\| `(shoal_\w+)` \| (\w+) \|[^|]+\|([^|]*)\|", DOCS.read_text(), re.M)
    }
    assert told == served(metrics)


def test_a_model_that_was_not_named_is_other():
    metrics = Metrics("1", ["m"])
    before = len(metrics.render("")[0].splitlines())
    metrics.token("who knows", 3)
    metrics.token("m", 2)
    text = metrics.render("")[0].decode()
    assert 'tokens_total{kind="completion",model="other"} 3.0' in text
    assert 'tokens_total{kind="completion",model="m"} 2.0' in text
    assert "who knows" not in text and len(text.splitlines()) == before


def test_openmetrics_is_given_to_who_names_it():
    body, kind = Metrics("1").render("application/openmetrics-text;version=abc")
    assert kind.startswith("application/openmetrics-text") and body.endswith(b"# EOF\n")
    assert Metrics("1").render("*/*")[1].startswith("text/plain")
