"""The Grafana dashboard asks for nothing that gateways and peers do not have: every query is read, none is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics as GatewayMetrics
from peer.metrics import Books
from peer.metrics import Metrics as PeerMetrics

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "shoal.json").read_text())
ADDED = {"instance", "job"}  # by Prometheus, to whatever it scrapes
LABELS_OF = re.compile(r"label_values\((\w+), (\w+)\)")


def queries() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel.get("targets", ())]


def exposed() -> dict[str, set[str]]:
    """Of every series that a gateway or a peer serves: its labels."""
    gateway, peer = GatewayMetrics("1", ["m"]), PeerMetrics("1")
    gateway.response("/v1/models", 200)
    peer.watch(lambda: Books(1, 1, 1, 1, 1, 1, 1, 1, 1, 1))
    found: dict[str, set[str]] = {}
    for body, _ in (gateway.render(""), peer.render("")):
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def filled(expr: str) -> str:
    """As Grafana sends it."""
    return expr.replace("$__rate_interval", "1m")


def nodes(expr: Any) -> Iterator[Any]:
    """The query and all that is in it."""
    yield expr
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        inner = getattr(expr, name, None)
        if isinstance(inner, promql.Expr):
            yield from nodes(inner)
    for inner in getattr(expr, "args", None) or ():
        yield from nodes(inner)


def selectors(expr: Any) -> Iterator[Any]:
    """Every place where a query names a metric."""
    return (node for node in nodes(expr) if isinstance(node, promql.VectorSelector))


@pytest.mark.parametrize(("panel", "expr"), queries())
def test_every_query_asks_for_what_is_there(panel: str, expr: str):
    there = exposed()
    read = promql.parse(filled(expr))  # raises ValueError for what Prometheus would not take
    known, named = set(ADDED), list(selectors(read))
    assert named, f"{panel} asks for nothing"
    for selector in named:
        assert selector.name in there, f"{panel}: nobody has a {selector.name}"
        labels = there[selector.name] | ADDED
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{panel}: {selector.name} has no label {matcher.name}"
        known |= labels
    for node in nodes(read):
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            assert set(node.modifier.labels) <= known, f"{panel}: no {node.modifier.labels} in {sorted(known)}"


def test_labels_are_of_values_that_exist():
    told = {match for _, expr in queries() for match in re.findall(r'(\w+)="(\w+)"', expr)}
    assert told >= {("kind", "completion"), ("state", "used"), ("outcome", "hit")}
    values: set[tuple[str, str]] = set()
    peer, gateway = PeerMetrics("1"), GatewayMetrics("1")
    peer.watch(lambda: Books(1, 1, 1, 1, 1, 1, 1, 1, 1, 1))
    for body, _ in (gateway.render(""), peer.render("")):
        for family in text_string_to_metric_families(body.decode()):
            values |= {item for sample in family.samples for item in sample.labels.items()}
    assert told <= values


def test_all_that_a_gateway_counts_is_on_the_board():
    asked = {selector.name for _, expr in queries() for selector in selectors(promql.parse(filled(expr)))}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    ours = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in exposed()
        if name.startswith("shoal_gateway_") and not name.endswith("_created")
    }
    assert ours <= families


def test_variables_and_panels_fit_together():
    there = exposed()
    names = {variable["name"] for variable in BOARD["templating"]["list"]}
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            found = LABELS_OF.fullmatch(variable["query"]["query"])
            assert found is not None and found[1] in there and found[2] in there[found[1]] | ADDED
    used = {name for _, expr in queries() for name in re.findall(r"\$(\w+)", expr)} - {"__rate_interval"}
    assert used <= names and {"gateway", "model", "peer"} <= used
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_grafana_is_told_to_look_where_the_dashboard_is_mounted():
    provider = yaml.safe_load((DEPLOY / "provisioning" / "dashboards" / "shoal.yaml").read_text())["providers"][0]
    mounts = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"./grafana:{provider['options']['path']}:ro" in mounts
